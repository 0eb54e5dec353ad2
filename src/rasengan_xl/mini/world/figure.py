"""Where everything in a portrait lies: a scene as a stack of shapes, before any hand draws it.

Coordinates are hundredths of the picture's side, x to the right and y downwards.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rasengan_xl.mini.world.scenes import (
    EYE_COLOURS,
    HAIR_COLOURS,
    JACKET_COLOURS,
    SKIN_TONES,
    Colour,
    Scene,
)

Point = tuple[float, float]
Placement = Callable[[Point], Point]

WHITE: Colour = (250, 250, 248)
PUPIL: Colour = (22, 20, 30)
CLOTH_BLUE: Colour = (52, 68, 118)
STEEL: Colour = (186, 194, 206)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A filled outline, or an open stroke when `stroke_width` is set."""

    points: tuple[Point, ...]
    colour: Colour
    role: str
    """What it is a part of: background, hair, skin, jacket, band, eye, mouth or glint."""
    stroke_width: float = 0.0
    """Width of an open stroke, in hundredths of the picture's side."""


def compose_figure(scene: Scene, *, eye_size: float) -> list[Shape]:
    """Stack the sitter of a scene from back to front.

    Args:
        scene: What to draw.
        eye_size: Height of the eyes against their natural height; a matter of style.
    """
    body, head = _placements(scene)
    hair = HAIR_COLOURS[scene.hair_colour]
    skin = SKIN_TONES[scene.skin_tone]
    jacket = JACKET_COLOURS[scene.jacket_colour]
    shapes = [
        *_place(_hair_behind(scene.hair_style, hair), head),
        *_place(_torso(jacket, skin), body),
        *_place(_face(skin), head),
        *_place(_eyes(EYE_COLOURS[scene.eye_colour], eye_size), head),
        *_place(_hair_in_front(scene, hair), head),
    ]
    if scene.headband:
        shapes += _place(_headband(), head)
    return shapes


def _placements(scene: Scene) -> tuple[Placement, Placement]:
    """Return where body and head go: the head also turns about the neck."""
    cosine = math.cos(math.radians(scene.tilt_degrees))
    sine = math.sin(math.radians(scene.tilt_degrees))

    def body(point: Point) -> Point:
        x, y = point
        return (
            50 + scene.offset_x + scene.scale * x,
            50 + scene.offset_y + scene.scale * y,
        )

    def head(point: Point) -> Point:
        x, y = point[0], point[1] - 22
        return body((cosine * x - sine * y, sine * x + cosine * y + 22))

    return body, head


def _place(shapes: Sequence[Shape], placement: Placement) -> list[Shape]:
    return [
        Shape(
            points=tuple(placement(point) for point in shape.points),
            colour=shape.colour,
            role=shape.role,
            stroke_width=shape.stroke_width,
        )
        for shape in shapes
    ]


def _hair_behind(style: str, colour: Colour) -> list[Shape]:
    if style == "long":
        outline = smooth(
            [(0, -35), (22, -28), (29, -4), (28, 20), (31, 40), (17, 42), (-17, 42), (-31, 40),
             (-28, 20), (-29, -4), (-22, -28)]
        )  # fmt: skip
        return [Shape(points=outline, colour=colour, role="hair")]
    if style == "bun":
        return [Shape(points=ellipse(0, -36, 11, 9), colour=colour, role="hair")]
    return []


def _torso(jacket: Colour, skin: Colour) -> list[Shape]:
    shoulders = smooth(
        [(-46, 62), (-38, 37), (-20, 29), (0, 30), (20, 29), (38, 37), (46, 62)], closed=False
    )
    return [
        Shape(points=((-8, 12), (8, 12), (9, 32), (0, 38), (-9, 32)), colour=skin, role="skin"),
        Shape(points=(*shoulders, (46, 66), (-46, 66)), colour=jacket, role="jacket"),
        Shape(points=((-9, 27), (9, 27), (0, 42)), colour=skin, role="skin"),
        Shape(
            points=((-20, 26), (-9, 24), (1, 43), (-5, 50)), colour=darker(jacket), role="jacket"
        ),
        Shape(points=((20, 26), (9, 24), (-1, 43), (5, 50)), colour=darker(jacket), role="jacket"),
    ]


def _face(skin: Colour) -> list[Shape]:
    outline = [
        (21 * math.cos(a) * (1 - 0.26 * max(0.0, math.sin(a)) ** 2), 23.5 * math.sin(a) - 3)
        for a in _turn(40)
    ]
    return [
        Shape(points=ellipse(-20.5, 0, 4, 5.5), colour=skin, role="skin"),
        Shape(points=ellipse(20.5, 0, 4, 5.5), colour=skin, role="skin"),
        Shape(points=tuple(outline), colour=skin, role="skin"),
        Shape(
            points=((-4.5, 12.2), (0, 13.4), (4.5, 12.2)),
            colour=(142, 62, 58),
            role="mouth",
            stroke_width=1.5,
        ),
    ]


def _eyes(iris: Colour, size: float) -> list[Shape]:
    shapes: list[Shape] = []
    for side in (-1, 1):
        x, y, height = 9.3 * side, 2.0, 3.9 * size
        width = 5.6 + 0.5 * (size - 1)
        shapes += [
            Shape(points=ellipse(x, y, width, height), colour=WHITE, role="eye"),
            Shape(points=ellipse(x, y, 3.9, height * 0.86), colour=iris, role="iris"),
            Shape(points=ellipse(x, y, 1.7, height * 0.42), colour=PUPIL, role="pupil"),
            Shape(points=ellipse(x + 1.6, y - height * 0.4, 1.3, 1.5), colour=WHITE, role="glint"),
            Shape(
                points=(
                    (x - 5, y - height - 2.6),
                    (x, y - height - 3.6),
                    (x + 5, y - height - 2.6),
                ),
                colour=(60, 44, 40),
                role="brow",
                stroke_width=1.4,
            ),
        ]
    return shapes


def _hair_in_front(scene: Scene, colour: Colour) -> list[Shape]:
    builders = {"spiky": _spikes, "long": _curtain, "short": _sweep, "bun": _swept_back}
    points = builders[scene.hair_style](random.Random(f"hair {scene.seed}"))
    return [Shape(points=points, colour=colour, role="hair")]


def _spikes(source: random.Random) -> tuple[Point, ...]:
    tips = 7
    points: list[Point] = [(-21.5, 2)]
    for i in range(tips):
        centre = math.pi * (1.04 + 0.92 * (i + 0.5) / tips)
        before = math.pi * (1.04 + 0.92 * i / tips)
        reach = 40 + source.uniform(-3, 3)
        points += [
            (25 * math.cos(before), -5 + 25 * math.sin(before)),
            (reach * math.cos(centre), -5 + reach * math.sin(centre)),
        ]
    points += [(25, -6), (21.5, 2), (18, -7), (12, -12), (9, -4), (3, -12), (-3, -3), (-7, -12)]
    return (*points, (-13, -5), (-17, -10))


def _curtain(_: random.Random) -> tuple[Point, ...]:
    return smooth(
        [(0, -35), (19, -29), (26, -10), (25, 12), (21, 16), (20, 0), (14, -10), (2, -17),
         (-10, -12), (-19, -2), (-21, 16), (-25, 12), (-26, -10), (-19, -29)]
    )  # fmt: skip


def _sweep(_: random.Random) -> tuple[Point, ...]:
    return smooth(
        [(-2, -34), (16, -31), (25, -16), (23, 1), (20, -6), (15, -12), (4, -11), (-8, -14),
         (-16, -7), (-20, 3), (-25, -10), (-19, -28)]
    )  # fmt: skip


def _swept_back(_: random.Random) -> tuple[Point, ...]:
    return smooth(
        [(0, -31), (17, -27), (24, -9), (22.5, 9), (20, 10), (19, -5), (12, -13), (5, -17),
         (0, -15), (-5, -17), (-12, -13), (-19, -5), (-20, 10), (-22.5, 9), (-24, -9), (-17, -27)]
    )  # fmt: skip


def _headband() -> list[Shape]:
    upper = [(-22.5, -14), (-12, -18.5), (0, -20), (12, -18.5), (22.5, -14)]
    lower = [(22, -6.5), (12, -10), (0, -11.5), (-12, -10), (-22, -6.5)]
    return [
        Shape(points=tuple(upper + lower), colour=CLOTH_BLUE, role="band"),
        Shape(
            points=((-10, -18.4), (0, -19.4), (10, -18.4), (9.5, -11.2), (0, -12.2), (-9.5, -11.2)),
            colour=STEEL,
            role="band",
        ),
        Shape(
            points=((-3.5, -14.4), (0, -17.2), (3.2, -14.6)),
            colour=(70, 76, 92),
            role="mark",
            stroke_width=1.5,
        ),
    ]


def ellipse(x: float, y: float, half_width: float, half_height: float) -> tuple[Point, ...]:
    """Return an ellipse as a polygon."""
    return tuple((x + half_width * math.cos(a), y + half_height * math.sin(a)) for a in _turn(32))


def smooth(corners: Sequence[Point], *, closed: bool = True) -> tuple[Point, ...]:
    """Round a polygon off: a uniform Catmull-Rom spline through its corners."""
    count = len(corners)
    spans = count if closed else count - 1
    points: list[Point] = []
    for i in range(spans):
        around = [
            corners[(i + k) % count] if closed else corners[min(max(i + k, 0), count - 1)]
            for k in (-1, 0, 1, 2)
        ]
        points += [_spline(around, step / 6) for step in range(6)]
    return tuple(points) if closed else (*points, corners[-1])


def _spline(around: Sequence[Point], t: float) -> Point:
    weights = (
        -t / 2 + t**2 - t**3 / 2,
        1 - 2.5 * t**2 + 1.5 * t**3,
        t / 2 + 2 * t**2 - 1.5 * t**3,
        -(t**2) / 2 + t**3 / 2,
    )
    x = sum(w * p[0] for w, p in zip(weights, around, strict=True))
    y = sum(w * p[1] for w, p in zip(weights, around, strict=True))
    return x, y


def darker(colour: Colour, factor: float = 0.8) -> Colour:
    """Return the colour in shade."""
    red, green, blue = (int(value * factor) for value in colour)
    return red, green, blue


def _turn(steps: int) -> list[float]:
    return [2 * math.pi * i / steps for i in range(steps)]
