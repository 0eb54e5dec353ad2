"""A scene and a style in, a picture out."""

from PIL import Image

from rasengan_xl.mini.world.backdrop import compose_backdrop
from rasengan_xl.mini.world.figure import compose_figure
from rasengan_xl.mini.world.hands import HANDS, add_grain
from rasengan_xl.mini.world.scenes import Scene

PICTURE_SIZE = 64
"""Side of a portrait in pixels."""
SUPERSAMPLING = 4
GRAIN = 2.0
"""Standard deviation of the grain of a plain portrait, in 255."""


def draw_portrait(scene: Scene, style: str, size: int = PICTURE_SIZE) -> Image.Image:
    """Draw a scene in a style: the same scene and style give the same picture.

    Args:
        scene: What to draw.
        style: A name in `HANDS`.
        size: Side in pixels.
    """
    hand = HANDS[style]
    figure = compose_figure(scene, eye_size=hand.eye_size)
    large = hand.draw(scene, compose_backdrop(scene), figure, size * SUPERSAMPLING)
    picture = large.resize((size, size), Image.Resampling.LANCZOS)
    return add_grain(picture, scene.seed, GRAIN) if style == "plain" else picture
