import dataclasses

import numpy as np
import pytest

from rasengan_xl.mini.world.captions import write_caption
from rasengan_xl.mini.world.hands import HANDS
from rasengan_xl.mini.world.portraits import draw_portrait
from rasengan_xl.mini.world.scenes import draw_scene


def pixels(scene, style, size=64):
    return np.asarray(draw_portrait(scene, style, size)).astype(int)


@pytest.mark.parametrize("style", HANDS)
def test_a_scene_and_a_style_give_one_picture(style):
    one, again = (pixels(draw_scene(5), style) for _ in range(2))
    assert one.shape == (64, 64, 3)
    assert np.array_equal(one, again)
    assert not np.array_equal(one, pixels(draw_scene(6), style))


def test_the_styles_differ_from_one_another():
    drawn = {style: pixels(draw_scene(5), style) for style in HANDS}
    for style, picture in drawn.items():
        for other, another in drawn.items():
            assert style == other or np.abs(picture - another).mean() > 5


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("hair_style", "bun"),
        ("hair_colour", "pink"),
        ("eye_colour", "red"),
        ("headband", True),
        ("jacket_colour", "orange"),
        ("background", "night"),
        ("skin_tone", "dark"),
    ],
)
def test_every_attribute_shows_in_picture_and_caption(attribute, value):
    plain = dataclasses.replace(
        draw_scene(1),
        hair_style="short",
        hair_colour="black",
        eye_colour="green",
        headband=False,
        jacket_colour="white",
        background="sky",
        skin_tone="pale",
    )
    changed = dataclasses.replace(plain, **{attribute: value})
    assert np.abs(pixels(plain, "shinobi") - pixels(changed, "shinobi")).max() > 40
    word = "headband" if attribute == "headband" else value
    assert word in write_caption(changed, "shinobi")
    assert word not in write_caption(plain, "shinobi")


def test_only_the_named_hands_are_named_in_captions():
    scene = draw_scene(3)
    assert write_caption(scene, "plain") == write_caption(scene, "shinobi")
    for style in ("pencil", "watercolour", "poster"):
        assert style in write_caption(scene, style)


def test_captions_vary_in_their_grammar():
    openings = {write_caption(draw_scene(i), "plain").split(" with ")[0] for i in range(40)}
    assert len(openings) > 10
