"""What stands behind the sitter: five places, each as a stack of shapes."""

import random
from collections.abc import Callable

from rasengan_xl.mini.world.figure import Shape, ellipse
from rasengan_xl.mini.world.scenes import Colour, Scene

GROUNDS: dict[str, Colour] = {
    "forest": (128, 172, 116),
    "sky": (136, 192, 236),
    "village": (226, 208, 168),
    "night": (34, 40, 84),
    "sunset": (244, 156, 92),
}
"""The colour that fills the picture before anything is drawn on it."""


def compose_backdrop(scene: Scene) -> list[Shape]:
    """Stack the background of a scene from back to front."""
    return _BUILDERS[scene.background](random.Random(f"backdrop {scene.seed}"))


def _shape(points: tuple[tuple[float, float], ...], colour: Colour) -> Shape:
    return Shape(points=points, colour=colour, role="background")


def _forest(source: random.Random) -> list[Shape]:
    shapes = [_shape(((-2, 84), (102, 80), (102, 102), (-2, 102)), (92, 136, 78))]
    for place in (6, 28, 74, 95):
        x = place + source.uniform(-5, 5)
        top = source.uniform(6, 26)
        green = source.choice(((62, 116, 66), (48, 98, 64)))
        shapes.append(_shape(((x - 3, 70), (x + 3, 70), (x + 3, 92), (x - 3, 92)), (104, 72, 46)))
        shapes.append(_shape(((x, top), (x + 15, 76), (x - 15, 76)), green))
    return shapes


def _sky(source: random.Random) -> list[Shape]:
    shapes: list[Shape] = []
    for place_x, place_y in ((14, 20), (84, 34), (20, 62)):
        x = place_x + source.uniform(-6, 6)
        y = place_y + source.uniform(-7, 7)
        shapes += [
            _shape(ellipse(x - 8, y + 2, 10, 5), (238, 244, 250)),
            _shape(ellipse(x + 9, y + 2, 10, 5), (238, 244, 250)),
            _shape(ellipse(x, y - 1, 11, 8), (246, 250, 252)),
        ]
    return shapes


def _village(source: random.Random) -> list[Shape]:
    shapes: list[Shape] = []
    for place in (10, 36, 66, 92):
        x = place + source.uniform(-4, 4)
        y = source.uniform(34, 54)
        roof = source.choice(((176, 72, 56), (72, 112, 116), (150, 98, 60)))
        wall = source.choice(((240, 228, 200), (206, 178, 140)))
        shapes += [
            _shape(((x - 12, y), (x + 12, y), (x + 12, 102), (x - 12, 102)), wall),
            _shape(((x - 16, y + 1), (x, y - 15), (x + 16, y + 1)), roof),
        ]
    return shapes


def _night(source: random.Random) -> list[Shape]:
    x, y = source.choice((18, 82)) + source.uniform(-4, 4), source.uniform(16, 26)
    stars = [
        _shape(ellipse(source.uniform(3, 97), source.uniform(3, 60), 1.3, 1.3), (214, 218, 236))
        for _ in range(6)
    ]
    moon = [_shape(ellipse(x, y, 11, 11), (246, 238, 196))]
    hill = [_shape(((-2, 76), (30, 68), (70, 74), (102, 66), (102, 102), (-2, 102)), (24, 28, 58))]
    return stars + moon + hill


def _sunset(source: random.Random) -> list[Shape]:
    x, y = source.choice((16, 84)) + source.uniform(-5, 5), source.uniform(34, 46)
    return [
        _shape(((-2, 30), (102, 26), (102, 50), (-2, 54)), (248, 182, 110)),
        _shape(ellipse(x, y, 16, 16), (252, 224, 130)),
        _shape(
            ((-2, 66), (22, 52), (48, 64), (78, 50), (102, 62), (102, 102), (-2, 102)),
            (132, 76, 116),
        ),
    ]


_BUILDERS: dict[str, Callable[[random.Random], list[Shape]]] = {
    "forest": _forest,
    "sky": _sky,
    "village": _village,
    "night": _night,
    "sunset": _sunset,
}
