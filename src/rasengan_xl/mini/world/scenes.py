"""What can be in a portrait: the attributes of a scene, drawn from its seed."""

import random
from dataclasses import dataclass

Colour = tuple[int, int, int]

HAIR_STYLES = ("spiky", "long", "short", "bun")
HAIR_COLOURS: dict[str, Colour] = {
    "blond": (238, 198, 62),
    "black": (42, 38, 50),
    "red": (190, 52, 40),
    "pink": (238, 146, 178),
    "silver": (206, 212, 224),
    "brown": (118, 74, 42),
    "blue": (62, 94, 190),
}
EYE_COLOURS: dict[str, Colour] = {
    "blue": (58, 128, 226),
    "green": (52, 164, 84),
    "brown": (112, 66, 30),
    "red": (208, 36, 36),
}
JACKET_COLOURS: dict[str, Colour] = {
    "orange": (238, 128, 34),
    "blue": (44, 78, 160),
    "green": (66, 122, 62),
    "red": (172, 42, 44),
    "black": (46, 46, 54),
    "white": (228, 228, 222),
}
SKIN_TONES: dict[str, Colour] = {
    "pale": (250, 224, 200),
    "tan": (232, 186, 146),
    "brown": (178, 124, 86),
    "dark": (122, 80, 56),
}
BACKGROUNDS = ("forest", "sky", "village", "night", "sunset")
ATTRIBUTES: dict[str, tuple[str | bool, ...]] = {
    "hair_style": HAIR_STYLES,
    "hair_colour": tuple(HAIR_COLOURS),
    "eye_colour": tuple(EYE_COLOURS),
    "headband": (False, True),
    "jacket_colour": tuple(JACKET_COLOURS),
    "background": BACKGROUNDS,
    "skin_tone": tuple(SKIN_TONES),
}
"""What a scene is made of and a caption names: each attribute with every value it can have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One portrait before it is drawn: what a caption names, and how the sitter is placed."""

    seed: int
    hair_style: str
    hair_colour: str
    eye_colour: str
    headband: bool
    jacket_colour: str
    background: str
    skin_tone: str
    offset_x: float
    """Shift of the sitter to the right, in hundredths of the picture's side."""
    offset_y: float
    """Shift of the sitter downwards, in hundredths of the picture's side."""
    scale: float
    tilt_degrees: float
    """Turn of the head about the neck, clockwise."""


def draw_scene(seed: int) -> Scene:
    """Draw every attribute of a scene, independently and uniformly, from its seed."""
    source = random.Random(f"scene {seed}")
    return Scene(
        seed=seed,
        hair_style=source.choice(HAIR_STYLES),
        hair_colour=source.choice(tuple(HAIR_COLOURS)),
        eye_colour=source.choice(tuple(EYE_COLOURS)),
        headband=source.random() < 0.5,
        jacket_colour=source.choice(tuple(JACKET_COLOURS)),
        background=source.choice(BACKGROUNDS),
        skin_tone=source.choice(tuple(SKIN_TONES)),
        offset_x=source.uniform(-5, 5),
        offset_y=source.uniform(-2, 3),
        scale=source.uniform(0.92, 1.08),
        tilt_degrees=source.uniform(-9, 9),
    )
