"""The dataset that ships with the package: 1,221 portraits in the style `shinobi`."""

from functools import partial
from io import BytesIO

from rasengan_xl.mini.world.captions import write_caption
from rasengan_xl.mini.world.portraits import PICTURE_SIZE, draw_portrait
from rasengan_xl.mini.world.scenes import draw_scene
from rasengan_xl.sources.pictures import CaptionedPicture, Source, hash_bytes

EMBEDDED = "mini"
"""What the user calls this dataset."""
NUM_PORTRAITS = 1221
STYLE = "shinobi"
WORLD_VERSION = 1
"""To be raised whenever the drawing changes, so that nothing cached outlives it; a test sees to
it. Portraits are known by this and their seed, not by their pixels: every arm is a process that
opens the dataset, and hashing pixels would have each draw all of them first. And a portrait is
then the same one where another build of Pillow sets an edge pixel otherwise, so that laptop and
GPU server hold out the same pictures."""


def open_embedded() -> Source:
    """Open the embedded dataset; a portrait is drawn when it is read."""
    pictures = tuple(_describe(seed) for seed in range(NUM_PORTRAITS))
    return Source(name=EMBEDDED, revision=None, pictures=pictures)


def _describe(seed: int) -> CaptionedPicture:
    return CaptionedPicture(
        name=f"portrait {seed}",
        captions=(write_caption(draw_scene(seed), STYLE),),
        picture_digest=hash_bytes(f"{STYLE} world {WORLD_VERSION} portrait {seed}".encode()),
        width=PICTURE_SIZE,
        height=PICTURE_SIZE,
        read=partial(_draw, seed),
    )


def _draw(seed: int) -> bytes:
    file = BytesIO()
    draw_portrait(draw_scene(seed), STYLE).save(file, "PPM")
    return file.getvalue()
