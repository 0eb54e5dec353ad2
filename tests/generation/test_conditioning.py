import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rasengan_xl.adapters.applying import applied
from rasengan_xl.adapters.changes import LowRank
from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.errors import RecipeError
from rasengan_xl.generation.conditioning import TextShape, condition, text_shape
from rasengan_xl.generation.drawing import draw_batches, draw_pictures
from rasengan_xl.generation.requests import Drawing, Request
from rasengan_xl.sdxl.prompts import token_limit

DRAWING = Drawing(size=(32, 32), sampler_steps=2, guidance=4.0, batch_size=4, reads_emphasis=True)


def encode(pipeline, prompt, negative=None):
    request = Request(prompt, 0, negative)
    return condition(pipeline, [request], text_shape(pipeline, request))


def as_diffusers_does(pipeline, prompt, negative=None):
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds")
    states = pipeline.encode_prompt(prompt, negative_prompt=negative, device="cpu")
    return dict(zip((*names, "negative_pooled_prompt_embeds"), states, strict=True))


def long_prompt(pipeline):
    return "a ninja with red hair, " * (token_limit(pipeline.tokenizer) // 4)


def test_a_plain_prompt_goes_the_way_of_diffusers_untouched(pipeline):
    for prompt in ("a ninja", "a ninja (red)", r"a ninja \(red\)"):
        given = encode(pipeline, prompt, "ugly")
        assert given == {"prompt": [prompt.replace("\\", "")], "negative_prompt": ["ugly"]}
    assert encode(pipeline, "a ninja") == {"prompt": ["a ninja"], "negative_prompt": None}


@pytest.mark.parametrize("negative", [None, "ugly person", ""])
def test_compel_with_every_weight_at_one_tells_the_unet_what_diffusers_does(pipeline, negative):
    request = Request("a ninja with red hair", 0, negative)
    shape = TextShape(has_negative=negative is not None, chunks=1)
    given = condition(pipeline, [request], shape)
    expected = as_diffusers_does(pipeline, "a ninja with red hair", negative)
    for name, states in expected.items():
        torch.testing.assert_close(given[name], states, rtol=1e-5, atol=1e-5)


def test_emphasis_moves_the_weighted_words_in_proportion(pipeline):
    plain = as_diffusers_does(pipeline, "a ninja with red hair")["prompt_embeds"]
    some, more = (
        encode(pipeline, f"a ninja with (red:{weight}) hair")["prompt_embeds"] - plain
        for weight in (1.25, 1.5)
    )
    moved = some.abs().amax(dim=(0, 2)) > 1e-4
    assert moved.sum() >= 1
    assert not moved[0]  # the mark of the beginning
    torch.testing.assert_close(more, 2 * some, rtol=1e-3, atol=1e-4)


def test_a_weight_below_one_and_both_spellings_work(pipeline):
    plain = as_diffusers_does(pipeline, "a red ninja")["prompt_embeds"]
    less = encode(pipeline, "a (red:0.5) ninja")["prompt_embeds"]
    assert (less - plain).abs().max() > 1e-3
    assert torch.equal(less, encode(pipeline, "a (red)0.5 ninja")["prompt_embeds"])


def test_words_beyond_the_limit_are_told_and_both_prompts_are_as_long(pipeline):
    prompt, limit = long_prompt(pipeline), token_limit(pipeline.tokenizer)
    given = encode(pipeline, prompt, "ugly")
    chunks = given["prompt_embeds"].shape[1] // limit
    assert chunks >= 2
    assert given["negative_prompt_embeds"].shape == given["prompt_embeds"].shape
    again = encode(pipeline, re.sub(r"red hair, $", "blue hair, ", prompt), "ugly")
    assert torch.equal(again["prompt_embeds"][:, :limit], given["prompt_embeds"][:, :limit])
    assert not torch.equal(again["prompt_embeds"], given["prompt_embeds"])
    assert not encode(pipeline, prompt)["negative_prompt_embeds"].any()


def test_a_text_too_long_altogether_is_refused(pipeline):
    with pytest.raises(RecipeError, match="shorten it"):
        text_shape(pipeline, Request("hair " * 2600, 0))


def test_pictures_of_mixed_prompts_do_not_depend_on_their_batch(pipeline):
    requests = [
        Request("a ninja", 1),
        Request("a (red:1.4) ninja", 2),
        Request(long_prompt(pipeline), 3),
        Request("a ninja", 4, "ugly"),
        Request("a ninja", 5, size=(40, 32)),
    ]
    batches = list(draw_batches(pipeline, requests, DRAWING))
    together = [picture for batch in batches for picture in batch.pictures]
    assert together[4].size == (40, 32)
    alone = draw_pictures(pipeline, requests, replace(DRAWING, batch_size=1))
    for one, other in zip(together, alone, strict=True):
        assert np.abs(np.asarray(one).astype(int) - np.asarray(other)).max() <= 1


@pytest.mark.parametrize("prompt", ["a ninja", "a (red:1.4) ninja"])
def test_adapters_on_the_text_encoders_act_on_every_prompt(pipeline, prompt):
    generator = torch.Generator().manual_seed(0)
    width = pipeline.text_encoder.config.hidden_size
    down, up = (
        torch.randn(2, width, generator=generator),
        torch.randn(width, 2, generator=generator),
    )
    layer = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    contents = AdapterContents(
        source=Path("made up"),
        form="",
        changes={layer: LowRank(down=down, up=up, alpha=2.0)},
        header={},
    )
    parts = {name: getattr(pipeline, name) for name in ("text_encoder", "text_encoder_2", "unet")}
    (base,) = draw_pictures(pipeline, [Request(prompt, 1)], DRAWING)
    with applied(parts, [contents], [1.0]):
        (adapted,) = draw_pictures(pipeline, [Request(prompt, 1)], DRAWING)
    assert adapted.tobytes() != base.tobytes()
    assert next(draw_pictures(pipeline, [Request(prompt, 1)], DRAWING)).tobytes() == base.tobytes()
