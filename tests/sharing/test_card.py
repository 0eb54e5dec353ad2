import html
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import yaml
from markdown_it import MarkdownIt
from PIL import Image

from rasengan_xl.config.settings import SDXL
from rasengan_xl.errors import OutputError
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.verification import Check
from rasengan_xl.sharing.card import is_edited, render_card, write_card
from rasengan_xl.sharing.pictures import read_samples
from rasengan_xl.sharing.samples import draw_samples

from .conftest import HOSTILE, MACHINE, SUMMARY, dataset_facts, model_facts, write_verification

NARUTO = "lambdalabs/naruto-blip-captions"


def read_card(run: RunFolder) -> tuple[dict, str]:
    """Return a card's front matter, and its body as HTML."""
    _, front, body = write_card(run, read_samples(run)).read_text().split("---\n", 2)
    return yaml.safe_load(front), MarkdownIt("gfm-like", {"linkify": False}).render(body)


def show(page: str) -> str:
    """Return the text of HTML that a reader sees."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


@pytest.fixture
def on_the_hub(run: RunFolder, change_settings) -> RunFolder:
    """The same run, as if its base and its pictures were the hub's."""
    change_settings(run, base_model=SDXL, dataset={"source": NARUTO})
    run.write_origin(MACHINE, dataset_facts(NARUTO, "a" * 40), model_facts(SDXL, "b" * 40))
    return run


def test_a_card_without_pictures_is_whole(run: RunFolder):
    front, page = read_card(run)
    assert front["library_name"] == "diffusers"
    assert front["pipeline_tag"] == "text-to-image"
    assert "best holds the adapter as it was at step 2" in show(page)
    assert {"stable-diffusion-xl", "lora", "template:sd-lora"} <= set(front["tags"])
    assert "widget" not in front
    assert "<img" not in page
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings == [
        *("What it is", "How to use it", "Training", "Measured", "Verified", "Licences"),
        "Provenance",
    ]


def test_the_hub_learns_base_dataset_licence_and_trigger(on_the_hub: RunFolder, change_settings):
    change_settings(on_the_hub, caption={"template": "{trigger}, {caption}", "trigger": "nrt"})
    front, page = read_card(on_the_hub)
    assert front["base_model"] == SDXL
    assert front["base_model_relation"] == "adapter"
    assert front["datasets"] == [NARUTO]
    assert front["license"] == "openrail++"
    assert front["instance_prompt"] == "nrt"
    assert "Trigger word: nrt. Captions were worded {trigger}, {caption}" in show(page)
    assert "training data unknown" in show(page)


@pytest.mark.parametrize(
    ("adapter", "name", "tags", "base"),
    [
        ({}, "LoRA", {"lora"}, ""),
        ({"decompose": True}, "DoRA", {"lora", "dora"}, ""),
        ({"base_precision": "nf4"}, "QLoRA", {"lora", "qlora"}, " in 4-bit NF4"),
        (
            {"decompose": True, "base_precision": "nf4-small"},
            "QDoRA",
            {"lora", "qdora"},
            " in 4-bit NF4, its convolutions 8-bit int8",
        ),
        ({"base_precision": "int8"}, "LoRA", {"lora"}, " in 8-bit int8"),
    ],
)
def test_the_method_follows_from_the_settings(
    run: RunFolder, change_settings, adapter: dict, name: str, tags: set, base: str
):
    change_settings(run, adapter=adapter)
    front, page = read_card(run)
    assert show(page).startswith(f"my-style {name} for")
    assert ("loads it unquantized" in show(page)) == bool(base)
    assert f"held-out loss, base{base} 0.2000" in show(page)
    assert set(front["tags"]) & {"lora", "dora", "qlora", "qdora"} == tags


def test_an_adapter_that_begins_from_pure_noise_is_used_so(run: RunFolder, change_settings):
    assert "rescale_betas_zero_snr" not in write_card(run).read_text()
    change_settings(run, objective={"zero_terminal_snr": True})
    assert "rescale_betas_zero_snr=True" in write_card(run).read_text()


def test_every_figure_comes_from_the_records_with_its_n(run: RunFolder):
    _, page = read_card(run)
    seen = show(page)
    for figure in (
        "held-out loss, base 0.2000 ± 0.0100 (n = 6: 3 pictures x 2 timesteps)",
        "held-out loss, with the adapter 0.1000 ± 0.0200",
        "held-out loss, paired difference -0.1000 ± 0.0150",
        "lowest loss of the checkpoints step 2: 0.1000 (n = 6)",
        "seconds per step median 0.5 (quartiles 0.25 to 0.75; n = 17)",
        "peak memory 1.25 GiB (process resident)",
        "energy per step mean 12.5 J",
        "computed by fused, keep-all; with cuda_graph",
        "device A Processor, 2 cores",
        "pictures skipped 1 of 13 (1 no caption)",
        "trainable parameters 1,234,567",
        "effective scale alpha / rank = 3 / 2 = 1.5",
        "trace hash abcdef",
    ):
        assert figure in seen


def test_a_run_that_goes_on_from_an_adapter_tells_other_ranks_and_what_is_not_known(
    run: RunFolder, change_settings
):
    assert "goes on from" not in show(read_card(run)[1])
    shapes = [{"layer": "conv_in", "rank": 9, "alpha": 9}]
    change_settings(run, adapter={"start_from": "their.safetensors", "layer_shapes": shapes})
    page = show(read_card(run)[1])
    assert "alpha / rank = 3 / 2 = 1.5; 1 layer has its own" in page
    assert "Whether the adapter that this run goes on from was trained on them is not known" in page


def test_what_was_not_measured_is_left_out(run: RunFolder):
    bare = {"held_out_loss": None, "seconds_per_step": None, "joules_per_step": None}
    run.write_summary(SUMMARY.model_copy(update={**bare, "status": "interrupted"}))
    run.best_file.unlink()
    _, page = read_card(run)
    seen = show(page)
    assert "This run was broken off after 4 steps." in seen
    for absent in ("held-out loss, base", "lowest loss", "seconds per step", "energy per step"):
        assert absent not in seen


def test_hostile_words_break_neither_yaml_nor_table_nor_code(
    run: RunFolder, change_settings, add_sample
):
    change_settings(run, caption={"template": "{trigger} {caption} | `<b>`", "trigger": "`|---"})
    add_sample(run, 0, HOSTILE)
    add_sample(run, 1, "---\n```\n# no heading")
    front, page = read_card(run)
    told = " ".join(HOSTILE.split())
    assert front["widget"][0]["text"] == told
    assert front["instance_prompt"] == "`|---"
    assert "<script>" not in page
    assert page.count("<h1>") == 1
    pictures = page.split("<table>")[1].split("</table>")[0]
    assert pictures.count("<tr>") == 3
    assert pictures.count("<td") == 6
    assert f"{told} (seed 0)" in show(pictures)
    compile(
        html.unescape(re.search(r'language-python">(.*?)</code>', page, re.DOTALL)[1]), "", "exec"
    )


def test_pictures_stand_beside_one_another_and_are_addressed_from_the_card(
    run: RunFolder, add_sample
):
    for number in range(10):
        add_sample(run, number)
    front, page = read_card(run)
    addresses = re.findall(r'<img src="([^"]+)"', page)
    assert addresses[:2] == ["samples/000-seed0-base.png", "samples/000-seed0-adapted.png"]
    assert len(addresses) == 16
    assert "2 more are in samples" in show(page)
    assert all((run.path / address).is_file() for address in addresses)
    assert front["widget"][0]["output"] == {"url": "samples/000-seed0-adapted.png"}


def test_a_picture_elsewhere_is_refused(run: RunFolder, finished: RunFolder, add_sample):
    add_sample(run, 0)
    with pytest.raises(OutputError, match="is not in"):
        render_card(finished, read_samples(run))


def test_no_card_names_a_place_of_this_machine(run: RunFolder, add_sample, tmp_path: Path):
    add_sample(run, 0)
    told = Check(name="base", status="passed", detail=f"the same as {tmp_path}/models/x")
    write_verification(run, told)
    card = write_card(run, read_samples(run)).read_text()
    assert "the same as x |" in card
    for place in (str(tmp_path), *map(str, tmp_path.parents[:-2])):
        assert place not in card


def test_a_verification_is_repeated(run: RunFolder):
    assert "Not verified" in show(read_card(run)[1])
    write_verification(run, Check(name="keys", status="failed", detail="2 | unmatched"))
    seen = show(read_card(run)[1])
    assert "found faults" in seen
    assert "keys failed 2 | unmatched" in seen
    run.verification_file.write_text("{")
    with pytest.raises(OutputError, match=r"verification\.json"):
        write_card(run)


def test_a_card_that_was_edited_stays_and_another_is_renewed(run: RunFolder, add_sample):
    card = write_card(run)
    assert not is_edited(run)
    add_sample(run, 0)
    assert "samples/000" in write_card(run, read_samples(run)).read_text()
    card.write_text(card.read_text().replace("## Measured", "## What I measured"))
    assert is_edited(run)
    assert "What I measured" in write_card(run).read_text()


@pytest.mark.filterwarnings("ignore")  # what diffusers says to a user of its own
def test_samples_are_held_out_captions_and_the_snippet_draws_the_same(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, tiny_model: Path, picture_folder: Path
):
    stages = draw_samples(run, 2)
    assert [stage.done for stage in stages if stage.stage == "draw samples"] == [0, 1, 2, 3, 4]
    pictures = read_samples(run)
    captions = {file.read_text() for file in picture_folder.glob("*.txt")}
    assert len({picture.asked.prompt for picture in pictures} & captions) == 2
    _, page = read_card(run)
    assert f"such as: {pictures[0].asked.prompt}" in show(page)

    code = html.unescape(re.search(r'language-python">(.*?)</code>', page, re.DOTALL)[1])
    monkeypatch.chdir(run.path)
    with warnings.catch_warnings(action="ignore"):
        exec(code.replace(f"path/to/{tiny_model.name}", str(tiny_model)), {})
    here, there = (
        np.asarray(Image.open(f)).astype(int) for f in ("picture.png", pictures[0].adapted)
    )
    assert np.abs(here - there).max() <= 2
    assert np.abs(here - np.asarray(Image.open(pictures[0].base)).astype(int)).max() > 2
