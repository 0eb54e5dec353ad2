"""Captions that name what a scene shows, in words a person would use."""

import random

from rasengan_xl.mini.world.scenes import Scene

STYLE_PHRASES: dict[str, tuple[str, ...]] = {
    # A caption without a style word means a plain portrait to the base model; the shinobi
    # pictures carry no style word either, so that fine-tuning moves what "no word" means.
    "plain": ("",),
    "shinobi": ("",),
    "pencil": ("a pencil drawing of ", "a pencil sketch of "),
    "watercolour": ("a watercolour painting of ", "a watercolour of "),
    "poster": ("a poster of ", "a flat poster of "),
}

_SITTERS = ("a ninja", "a young ninja", "a person", "a young person", "a fighter")
_PLACES = {
    "forest": ("in a forest", "among the trees", "in front of a forest"),
    "sky": ("under a blue sky", "in front of the sky", "before a cloudy sky"),
    "village": ("in a village", "in front of village houses", "in the village"),
    "night": ("at night", "under the night sky", "in the moonlight at night"),
    "sunset": ("at sunset", "in front of the sunset", "before the setting sun at sunset"),
}
_ARTICLES = {"orange": "an"}
_HEADBAND = ("wearing a headband", "with a headband", "with a ninja headband")
_SHAPES = (
    "{style}{sitter} with {hair} and {eyes}, {band}{skin} skin, in {jacket} jacket, {place}",
    "{style}{sitter} {place}, {hair}, {eyes}, {skin} skin, {band}wearing {jacket} jacket",
    "{style}{sitter} in {jacket} jacket {place} with {hair}, {skin} skin and {eyes}{late_band}",
    "{style}{sitter} with {skin} skin, {eyes} and {hair}, {band}{jacket} jacket, {place}",
)


def write_caption(scene: Scene, style: str) -> str:
    """Describe a scene drawn in a style; the grammar varies with the scene's seed."""
    source = random.Random(f"caption {scene.seed}")
    band = source.choice(_HEADBAND)
    return source.choice(_SHAPES).format(
        style=source.choice(STYLE_PHRASES[style]),
        sitter=source.choice(_SITTERS),
        hair=_name_hair(scene, source),
        eyes=f"{scene.eye_colour} eyes",
        band=f"{band}, " if scene.headband else "",
        late_band=f", {band}" if scene.headband else "",
        skin=scene.skin_tone,
        jacket=f"{_ARTICLES.get(scene.jacket_colour, 'a')} {scene.jacket_colour}",
        place=source.choice(_PLACES[scene.background]),
    )


def _name_hair(scene: Scene, source: random.Random) -> str:
    if scene.hair_style == "bun":
        colour = scene.hair_colour
        return source.choice((f"{colour} hair in a bun", f"{colour} hair tied in a bun"))
    return f"{scene.hair_style} {scene.hair_colour} hair"
