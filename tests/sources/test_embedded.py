import hashlib
import platform
from collections import Counter

import pytest

from rasengan_xl.mini.world import scenes
from rasengan_xl.mini.world.scenes import draw_scene
from rasengan_xl.sources.embedded import STYLE, WORLD_VERSION, open_embedded

PROBES = range(40)
DRAWN = {1: "45c07dec137f1504f26e38637fdd53043abf1b0b259414064d8683c13f17d568"}
"""SHA-256 over the pixels of the probes, by version of the world."""


def test_the_dataset_has_its_published_size_and_no_portrait_twice():
    source = open_embedded()
    assert len(source.pictures) == 1221
    assert len({picture.picture_digest for picture in source.pictures}) == 1221
    assert source.name == "mini"


def test_a_portrait_is_drawn_when_it_is_loaded():
    picture = open_embedded().pictures[7]
    image = picture.load()
    assert (image.size, image.mode) == ((64, 64), "RGB")
    assert image.tobytes() == picture.load().tobytes()
    assert draw_scene(7).jacket_colour in picture.captions[0]
    assert image.size == (picture.width, picture.height)


def test_the_probes_show_every_attribute():
    probes = [draw_scene(seed) for seed in PROBES]
    for attribute, values in {
        "hair_style": scenes.HAIR_STYLES,
        "hair_colour": scenes.HAIR_COLOURS,
        "eye_colour": scenes.EYE_COLOURS,
        "jacket_colour": scenes.JACKET_COLOURS,
        "background": scenes.BACKGROUNDS,
        "skin_tone": scenes.SKIN_TONES,
        "headband": (True, False),
    }.items():
        shown = Counter(getattr(probe, attribute) for probe in probes)
        assert set(shown) == set(values)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="edge pixels may differ elsewhere")
def test_the_world_has_a_new_version_when_it_is_drawn_otherwise():
    drawn = hashlib.sha256(STYLE.encode())
    for picture in open_embedded().pictures[: len(PROBES)]:
        drawn.update(picture.load().tobytes())
    assert drawn.hexdigest() == DRAWN.get(WORLD_VERSION), "raise WORLD_VERSION, then record this"
