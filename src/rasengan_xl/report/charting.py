"""What all charts share: both sizes of a drawing, whiskers, axes in the page's hand."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from rasengan_xl.evaluation.records import Estimate
from rasengan_xl.report.data_tables import DataTable
from rasengan_xl.report.svg import (
    PAPER,
    Chart,
    Draw,
    Size,
    colour_of,
    marker_of,
    marker_size_of,
    name_series,
    render_svg,
)

WIDE = Size(width=1120, height=380)
HALF = Size(width=540, height=360)
NARROW = Size(width=370, height=320)


def make_chart(
    draw: Draw,
    size: Size,
    *,
    title: str,
    caption: str,
    table: DataTable,
    series: Sequence[tuple[int, str]],
) -> Chart:
    """Draw for a wide screen and for a phone.

    Args:
        draw: Fills a figure of either size.
        size: On a wide screen; on a phone it is about as high, if `phone_height` does not tell.
        title: Names the chart.
        caption: What a reader must know of it.
        table: The numbers that are drawn; its name is the chart's.
        series: Place and name of the arms in it.
    """
    key = table.name
    height = size.phone_height or min(size.height, NARROW.height + 40)
    phone = Size(width=NARROW.width, height=height)
    label = f"{title}: " + (", ".join(name for _, name in series) or "no arm")
    return Chart(
        key=key,
        title=title,
        caption=caption,
        wide=render_svg(draw, size, f"{key}-wide", label),
        narrow=render_svg(draw, phone, f"{key}-narrow", label),
        table=table,
        series=list(series),
    )


def draw_point(
    axes: Axes,
    index: int,
    x: tuple[float, float, float],
    y: tuple[float, float, float],
) -> None:
    """Draw a point with its whiskers, each place as value, low and high."""
    colour = colour_of(index)
    (across,) = axes.plot(x[1:], (y[0], y[0]), color=colour, linewidth=2, solid_capstyle="round")
    (along,) = axes.plot((x[0], x[0]), y[1:], color=colour, linewidth=2, solid_capstyle="round")
    (point,) = axes.plot(
        x[:1],
        y[:1],
        marker=marker_of(index),
        color=colour,
        markersize=marker_size_of(index),
        markeredgecolor=PAPER,
        markeredgewidth=1.2,
        linestyle="none",
    )
    for artist in (across, along, point):
        artist.set_gid(name_series(index))


def spread(estimate: Estimate) -> tuple[float, float, float]:
    """Return a value with both ends of its interval; without one, they are the value."""
    low = estimate.value if estimate.low is None else estimate.low
    high = estimate.value if estimate.high is None else estimate.high
    return estimate.value, low, high


def label_axes(axes: Axes, x_label: str, y_label: str, *, narrow: bool) -> None:
    """Name both axes: below, and level above the left one, where it is read without turning."""
    axes.set_xlabel(x_label, loc="right")
    axes.set_title(y_label, loc="left", fontsize=12.5, pad=12)
    axes.locator_params(axis="both", nbins=4 if narrow else 6)
    axes.margins(0.08)
