"""Five hands that draw the same shapes: plain, shinobi, pencil, watercolour and poster."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from rasengan_xl.mini.world.backdrop import GROUNDS
from rasengan_xl.mini.world.figure import Shape
from rasengan_xl.mini.world.scenes import Colour, Scene

INK: Colour = (24, 18, 30)
GRAPHITE: Colour = (92, 92, 100)
PAPER: Colour = (248, 245, 236)

Picture = Image.Image
Pixels = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Hand:
    """A way of drawing: how large it makes the eyes, and how it puts shapes on a canvas."""

    eye_size: float
    draw: Callable[[Scene, Sequence[Shape], Sequence[Shape], int], Picture]
    """Draws (scene, backdrop, figure) on a square canvas of the given side in pixels."""


def _draw_plain(
    scene: Scene, backdrop: Sequence[Shape], figure: Sequence[Shape], side: int
) -> Picture:
    """Muted colours under soft light from above, no lines, a little grain."""
    canvas = Image.new("RGB", (side, side), _mute(GROUNDS[scene.background]))
    for shape in backdrop:
        _fill(canvas, shape, _mute(shape.colour))
    canvas = canvas.filter(ImageFilter.GaussianBlur(side * 0.012))
    for shape in figure:
        colour = _mute(shape.colour)
        if shape.role in {"hair", "skin", "jacket"}:
            _fill_lit(canvas, shape, colour)
        else:
            _fill(canvas, shape, colour)
    canvas = canvas.filter(ImageFilter.GaussianBlur(side * 0.007))
    light = Image.linear_gradient("L").resize((side, side))
    shade = ImageOps.colorize(light, (255, 253, 248), (208, 208, 214))
    return ImageChops.multiply(canvas, shade)


def _draw_shinobi(
    scene: Scene, backdrop: Sequence[Shape], figure: Sequence[Shape], side: int
) -> Picture:
    """Ink outlines that swell to the lower right, flat strong colour, one shadow tone."""
    canvas = Image.new("RGB", (side, side), _saturate(GROUNDS[scene.background]))
    for shape in backdrop:
        _ink(canvas, shape, width=0.5, swell=0.3)
        _fill(canvas, shape, _saturate(shape.colour))
    for shape in figure:
        colour = _saturate(shape.colour)
        if shape.role == "glint":
            _fill(canvas, shape, (255, 255, 255))
        elif shape.role in {"iris", "pupil"}:
            _fill(canvas, shape, colour)
        elif shape.stroke_width:
            _fill(canvas, shape, INK)
        else:
            _ink(canvas, shape, width=1.0, swell=0.8 if shape.role != "eye" else 0.2)
            _fill(canvas, shape, colour)
            if shape.role in {"hair", "skin", "jacket"}:
                _shadow(canvas, shape, _scale(colour, 0.74))
    return canvas


def _draw_pencil(
    scene: Scene, backdrop: Sequence[Shape], figure: Sequence[Shape], side: int
) -> Picture:
    """Graphite contours gone over twice on paper, with a breath of tone."""
    canvas = Image.new("RGB", (side, side), _tint(GROUNDS[scene.background], 0.2))
    for shape in (*backdrop, *figure):
        far = shape.role == "background"
        if shape.role in {"iris", "pupil", "glint"}:
            _fill(canvas, shape, _tint(shape.colour, 0.9))
            continue
        _fill(canvas, shape, _tint(shape.colour, 0.22 if far else 0.5))
        line = _mix(GRAPHITE, PAPER, 0.45) if far else GRAPHITE
        for shift in (-0.35, 0.35):
            _outline(canvas, shape, line, width=0.55, shift=(shift, -shift))
    return canvas


def _draw_watercolour(
    scene: Scene, backdrop: Sequence[Shape], figure: Sequence[Shape], side: int
) -> Picture:
    """Pale washes with darker rims and uneven pigment, fading to paper at the border."""
    canvas = Image.new("RGB", (side, side), _wash(GROUNDS[scene.background]))
    for shape in (*backdrop, *figure):
        colour = _wash(shape.colour)
        _fill(canvas, shape, colour)
        if not shape.stroke_width and shape.role not in {"eye", "glint", "iris", "pupil"}:
            _outline(canvas, shape, _scale(colour, 0.86), width=0.8)
    canvas = canvas.filter(ImageFilter.GaussianBlur(side * 0.006))
    pigment = _blotches(scene.seed, side)
    canvas = ImageChops.multiply(canvas, Image.merge("RGB", (pigment,) * 3))
    edge = ImageOps.invert(Image.radial_gradient("L").resize((side, side)))
    fade = edge.point([min(255, max(0, (value - 20) * 5)) for value in range(256)])
    return Image.composite(canvas, Image.new("RGB", (side, side), PAPER), fade)


def _draw_poster(
    scene: Scene, backdrop: Sequence[Shape], figure: Sequence[Shape], side: int
) -> Picture:
    """Flat figure with a broad paper rim on a two-tone ground, as if cut out and pasted."""
    ground = GROUNDS[scene.background]
    canvas = Image.new("RGB", (side, side), _mix(ground, PAPER, 0.25))
    for shape in backdrop:
        _fill(canvas, shape, _mix(_scale(ground, 0.8), shape.colour, 0.6))
    for shape in figure:
        if shape.role in {"hair", "skin", "jacket"}:
            _outline(canvas, shape, PAPER, width=2.2)
    for shape in figure:
        _fill(canvas, shape, shape.colour)
    return canvas


HANDS: dict[str, Hand] = {
    "plain": Hand(1.0, _draw_plain),
    "shinobi": Hand(1.7, _draw_shinobi),
    "pencil": Hand(1.25, _draw_pencil),
    "watercolour": Hand(1.1, _draw_watercolour),
    "poster": Hand(1.35, _draw_poster),
}


def add_grain(picture: Picture, seed: int, strength: float) -> Picture:
    """Add film grain: grey noise with a standard deviation of `strength` in 255."""
    noise = np.random.default_rng(seed).normal(0, strength, (picture.height, picture.width, 1))
    grained = np.asarray(picture, dtype=np.float64) + noise
    return Image.fromarray(np.clip(np.rint(grained), 0, 255).astype(np.uint8))


def _pixels(canvas: Picture, shape: Shape, shift: tuple[float, float] = (0, 0)) -> Pixels:
    unit = canvas.width / 100
    return [((x + shift[0]) * unit, (y + shift[1]) * unit) for x, y in shape.points]


def _fill(canvas: Picture, shape: Shape, colour: Colour) -> None:
    pen = ImageDraw.Draw(canvas)
    if shape.stroke_width:
        width = round(shape.stroke_width * canvas.width / 100)
        pen.line(_pixels(canvas, shape), fill=colour, width=width, joint="curve")
    else:
        pen.polygon(_pixels(canvas, shape), fill=colour)


def _fill_lit(canvas: Picture, shape: Shape, colour: Colour) -> None:
    """Fill with the colour brighter at the top of the shape and darker at its bottom."""
    xs, ys = zip(*_pixels(canvas, shape), strict=True)
    left, top = int(min(xs)), int(min(ys))
    size = (max(1, int(max(xs)) - left + 1), max(1, int(max(ys)) - top + 1))
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).polygon(
        [(x - left, y - top) for x, y in zip(xs, ys, strict=True)], fill=255
    )
    light = Image.linear_gradient("L").resize(size)
    lit = ImageOps.colorize(light, _scale(colour, 1.1), _scale(colour, 0.78))
    canvas.paste(lit, (left, top), mask)


def _ink(canvas: Picture, shape: Shape, *, width: float, swell: float) -> None:
    """Lay ink under a shape: an even rim, and more of it towards the lower right."""
    pen = ImageDraw.Draw(canvas)
    if swell:
        pen.polygon(_pixels(canvas, shape, (swell, swell)), fill=INK)
        _outline(canvas, shape, INK, width=width, shift=(swell / 2, swell / 2))
    _outline(canvas, shape, INK, width=width)


def _outline(
    canvas: Picture,
    shape: Shape,
    colour: Colour,
    *,
    width: float,
    shift: tuple[float, float] = (0, 0),
) -> None:
    points = _pixels(canvas, shape, shift)
    closed = points if shape.stroke_width else [*points, points[0], points[1]]
    pixels = max(1, round(2 * width * canvas.width / 100))
    ImageDraw.Draw(canvas).line(closed, fill=colour, width=pixels, joint="curve")


def _shadow(canvas: Picture, shape: Shape, colour: Colour) -> None:
    """Darken the part of a shape that turns away from light at the upper left."""
    inside = Image.new("L", canvas.size)
    ImageDraw.Draw(inside).polygon(_pixels(canvas, shape), fill=255)
    lit = Image.new("L", canvas.size)
    ImageDraw.Draw(lit).polygon(_pixels(canvas, shape, (-4.5, -3.0)), fill=255)
    canvas.paste(colour, (0, 0), ImageChops.subtract(inside, lit))


def _blotches(seed: int, side: int) -> Picture:
    source = random.Random(f"blotches {seed}")
    coarse = Image.new("L", (6, 6))
    coarse.putdata([source.randint(206, 255) for _ in range(36)])
    return coarse.resize((side, side), Image.Resampling.BICUBIC)


def _mute(colour: Colour) -> Colour:
    grey = sum(colour) / 3
    return _clip(0.86 * (grey + 0.72 * (value - grey)) + 20 for value in colour)


def _saturate(colour: Colour) -> Colour:
    grey = sum(colour) / 3
    return _clip(grey + 1.45 * (value - grey) + 6 for value in colour)


def _tint(colour: Colour, tone: float) -> Colour:
    grey = sum(colour) / 3
    faint = _clip(grey + 0.45 * (value - grey) for value in colour)
    return _mix(PAPER, faint, tone)


def _wash(colour: Colour) -> Colour:
    return _mix(colour, PAPER, 0.38)


def _mix(one: Colour, other: Colour, share: float) -> Colour:
    return _clip(a + share * (b - a) for a, b in zip(one, other, strict=True))


def _scale(colour: Colour, factor: float) -> Colour:
    return _clip(value * factor for value in colour)


def _clip(values: Iterable[float]) -> Colour:
    red, green, blue = (min(255, max(0, round(value))) for value in values)
    return red, green, blue
