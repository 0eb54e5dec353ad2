import pytest

from rasengan_xl.config.comparison import load_comparison
from rasengan_xl.mini.world.caption_reading import read_caption
from rasengan_xl.mini.world.captions import write_caption
from rasengan_xl.mini.world.hands import HANDS
from rasengan_xl.mini.world.scenes import ATTRIBUTES, draw_scene


@pytest.mark.parametrize("style", HANDS)
def test_reading_a_caption_is_the_inverse_of_writing_it(style):
    for seed in range(2_000):
        scene = draw_scene(seed)
        expected = {attribute: getattr(scene, attribute) for attribute in ATTRIBUTES}
        assert read_caption(write_caption(scene, style)) == expected


def test_the_prompts_of_the_mini_comparison_name_every_attribute():
    prompts = load_comparison("mini").pictures.prompts
    readings = [read_caption(prompt) for prompt in prompts]
    assert len(readings) >= 6
    for reading in readings:
        assert list(reading) == list(ATTRIBUTES)
        assert all(value in ATTRIBUTES[name] for name, value in reading.items())
    assert readings[0] == {
        "hair_style": "spiky",
        "hair_colour": "blond",
        "eye_colour": "blue",
        "headband": True,
        "jacket_colour": "orange",
        "background": "village",
        "skin_tone": "tan",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {"headband": False}),
        ("a purple dragon, 8k, masterpiece (best:1.2) \\ \N{DRAGON}", {"headband": False}),
        ("Long  RED hair", {"hair_style": "long", "hair_colour": "red", "headband": False}),
        ("blue spiky hair", {"hair_style": "spiky", "hair_colour": "blue", "headband": False}),
        ("under the night sky", {"headband": False, "background": "night"}),
        ("a dark forest", {"headband": False, "background": "forest"}),
        ("a brown-skinned ninja", {"headband": False, "skin_tone": "brown"}),
        ("without a headband", {"headband": False}),
        ("a headband, teal eyes", {"headband": True}),
        ("a bundle of short sticks", {"headband": False}),
    ],
)
def test_a_free_prompt_names_what_it_names_and_nothing_else(text, expected):
    assert read_caption(text) == expected
