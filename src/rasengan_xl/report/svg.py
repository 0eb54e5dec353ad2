"""Drawings by matplotlib as inline SVG that takes its colours from the page."""

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from rasengan_xl.report.data_tables import DataTable

COLOURS = 8
"""Arms beyond these share a colour with an earlier one, but no shape; see `page.css`."""
INK, SOFT, LINE, PAPER = "#0b0b01", "#0b0b02", "#0b0b03", "#0b0b04"
"""Stand for colours of the page until the drawing is SVG; no drawing uses them as colours."""
MARKERS = "os^DvPX*"
MARKER_SIZES = (9, 8.5, 11, 8.5, 11, 10.5, 10.5, 14)
"""So that all shapes look equally large."""
DASHES: tuple[tuple[int, tuple[float, ...]], ...] = (
    (0, ()),
    (0, (4, 2)),
    (0, (1, 1.4)),
    (0, (6, 2, 1, 2)),
    (0, (8, 2)),
    (0, (2.5, 1.5)),
    (0, (1, 0.8)),
    (0, (4, 1.5, 1, 1.5, 1, 1.5)),
)
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 12.5,
    "font.family": "DejaVu Sans",
    "text.color": SOFT,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": LINE,
    "axes.linewidth": 1,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.limits": (-9, 9),
    "axes.formatter.useoffset": False,
    "grid.color": LINE,
    "grid.linewidth": 1,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "ytick.major.size": 0,
    "lines.solid_capstyle": "round",
    "lines.dash_capstyle": "round",
    "figure.dpi": 72,
    "figure.constrained_layout.use": True,
}
_SHAPES_APART = 3
_VARIABLES = {INK: "--ink", SOFT: "--soft", LINE: "--line", PAPER: "--paper"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A drawing for a wide screen and for a phone, and the numbers it is made of."""

    key: str
    title: str
    caption: str
    wide: str
    narrow: str
    table: DataTable
    series: list[tuple[int, str]]
    """Place and name of every arm that can be taken out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Size of a drawing in pixels."""

    width: int
    height: int
    phone_height: int | None = None
    """Of the drawing that takes its place on a phone."""

    @property
    def narrow(self) -> bool:
        """Whether it is for a phone."""
        return self.width < 400


Draw = Callable[[Figure, Size], None]


def colour_of(index: int) -> str:
    """Return what stands for the colour of an arm, by its place among the arms."""
    return f"#0a0a{index % COLOURS:02x}"


def shape_of(index: int) -> int:
    """Return which shape an arm has; no two of the first 64 arms have it and colour in common."""
    return (index + _SHAPES_APART * (index // COLOURS)) % COLOURS


def marker_of(index: int) -> str:
    """Return the mark of an arm."""
    return MARKERS[shape_of(index)]


def marker_size_of(index: int) -> float:
    """Return the size of an arm's mark."""
    return MARKER_SIZES[shape_of(index)]


def dash_of(index: int) -> tuple[int, tuple[float, ...]]:
    """Return how the lines of an arm are broken."""
    return DASHES[shape_of(index)]


def name_series(index: int) -> str:
    """Return the id by which an artist becomes part of an arm's series."""
    return f"series{index}"


def render_svg(draw: Draw, size: Size, key: str, label: str) -> str:
    """Draw, and return an `<svg>` element; equal drawings are equal text.

    Args:
        draw: Fills an empty figure.
        size: In pixels.
        key: Unlike that of any other drawing of the page, so that ids are.
        label: Read out in place of the drawing.
    """
    with mpl.rc_context({**_STYLE, "svg.hashsalt": key}), warnings.catch_warnings():
        # It warns of letters that its own font lacks; the reader's has them.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        figure = Figure(figsize=(size.width / 72, size.height / 72), facecolor="none")
        FigureCanvasSVG(figure)
        draw(figure, size)
        for axes in figure.axes:
            axes.set_facecolor("none")
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return _adapt(text.getvalue(), size, label)


def _adapt(svg: str, size: Size, label: str) -> str:
    """Take out what would reach beyond the drawing, and put the page's colours in."""
    body = svg[svg.index("<g id=") : svg.rindex("</svg>")]
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    body = body.replace("xlink:href", "href")
    body = re.sub(r'id="series(\d+)"', r'data-series="\1"', body)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', body))
    body = re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in used else "", body)
    # The page's font; matplotlib's own only measured the words.
    body = re.sub(r"font: (?:(\d+|bold) )?([\d.]+)px [^;\"]+", _write_font, body)
    body = body.replace("; font-family: 'DejaVu Sans'", "")
    body = re.sub(r'\b(?:d|x|y|transform)="[^"]*"', _round_places, body)
    for stand_in, variable in _VARIABLES.items():
        body = body.replace(stand_in, f"var({variable})")
    body = re.sub(r"#0a0a0([0-7])", r"var(--arm-\1)", body)
    body = re.sub(r"\n\s*", "\n", body)
    kind, name = "narrow" if size.narrow else "wide", escape(label)
    return (
        f'<svg class="{kind}" viewBox="0 0 {size.width} {size.height}" role="img" '
        f'aria-label="{name}"><title>{name}</title>{_definitions(svg)}{body}</svg>'
    )


def _write_font(match: re.Match[str]) -> str:
    weight = f"; font-weight: {match[1]}" if match[1] else ""
    return f"font-size: {match[2]}px{weight}"


def _round_places(match: re.Match[str]) -> str:
    """Write places to a hundredth of a pixel: finer ones only make the page heavy."""
    return re.sub(r"(\.\d\d)\d+", r"\1", match[0])


def _definitions(svg: str) -> str:
    """Return the clip paths and markers that stand before the drawing, without its style."""
    return "".join(
        definition
        for definition in re.findall(r"<defs>.*?</defs>", svg[: svg.index("<g id=")], re.DOTALL)
        if "<style" not in definition
    )
