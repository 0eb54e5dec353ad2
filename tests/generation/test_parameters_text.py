import re

import pytest

from rasengan_xl.generation.parameters_text import PictureFacts, UsedAdapter, write_parameters
from rasengan_xl.generation.schedulers import SAMPLERS


def facts(**changes):
    values = {
        "prompt": "a ninja",
        "negative_prompt": None,
        "seed": 7,
        "width": 832,
        "height": 1216,
        "sampler_steps": 30,
        "guidance": 5.5,
        "guidance_rescale": 0.0,
        "scheduler": "dpm++2m-karras",
        "sampler": SAMPLERS["dpm++2m-karras"],
        "base_model": "owner/base-1.0",
    }
    return PictureFacts(**(values | changes))


def parse(text):
    """Read a text as A1111 is documented to: settings last, the negative prompt marked."""
    *lines, last = text.strip().split("\n")
    settings = {}
    for key, value in re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', last):
        quoted = value.startswith('"')
        settings[key] = re.sub(r"\\(.)", r"\1", value[1:-1]) if quoted else value
    prompt, negative = [], None
    for line in lines:
        if line.startswith("Negative prompt:"):
            negative = [line.removeprefix("Negative prompt:").strip()]
        else:
            (prompt if negative is None else negative).append(line)
    return "\n".join(prompt), None if negative is None else "\n".join(negative), settings


@pytest.mark.parametrize(
    "prompt",
    [
        "a ninja",
        'one, two: "three", Steps: 3',
        "first line\nsecond line, with: colons",
        "ein Mädchen, 忍者",
        "",
    ],
)
@pytest.mark.parametrize("negative", [None, "ugly", "bad,\nworse: worst"])
def test_a_reader_of_a1111s_form_gets_back_what_was_written(prompt, negative):
    read = parse(write_parameters(facts(prompt=prompt, negative_prompt=negative)))
    assert read[:2] == (prompt, negative)
    assert read[2] == {
        "Steps": "30",
        "Sampler": "DPM++ 2M",
        "Schedule type": "Karras",
        "CFG scale": "5.5",
        "Seed": "7",
        "Size": "832x1216",
        "Model": "base-1.0",
    }


def test_adapters_are_named_in_the_prompt_and_by_hash():
    used = tuple(
        UsedAdapter(name=name, file=f"{name}.safetensors", strength=strength, a1111_hash=digest)
        for name, strength, digest in (("style", 0.7, "0123456789ab"), ("other", 1.0, "ba98"))
    )
    prompt, _, settings = parse(write_parameters(facts(adapters=used)))
    assert prompt == "a ninja <lora:style:0.7> <lora:other:1>"
    assert settings["Lora hashes"] == "style: 0123456789ab, other: ba98"


def test_emphasis_is_spelt_as_a1111_does_and_its_own_marks_are_escaped():
    prompt, *_ = parse(write_parameters(facts(prompt="red++ [hair] (left)")))
    assert prompt == r"(red:1.21) \[hair\] \(left\)"


def test_a_sampler_a1111_does_not_know_is_named_by_its_class():
    told = facts(scheduler="StrangeScheduler", sampler=None, denoise=0.6, guidance_rescale=0.7)
    settings = parse(write_parameters(told))[2]
    assert settings["Sampler"] == "StrangeScheduler"
    assert settings["Denoising strength"] == "0.6"
    assert settings["CFG Rescale"] == "0.7"
