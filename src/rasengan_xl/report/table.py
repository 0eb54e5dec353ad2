"""The table of a comparison: what every arm cost and gave, each figure with its n and spread."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rasengan_xl.comparison.result import ArmResult
from rasengan_xl.report.measurements import (
    ARROW,
    Figure,
    measure_adapter,
    measure_change,
    measure_held_out_loss,
    measure_idleness,
    measure_memory,
    measure_parameters,
    measure_seconds,
    measure_training_loss,
    name_best,
    name_trace,
)
from rasengan_xl.report.numbers import MISSING, write_n, write_times


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A figure beside those of the other arms; empty where the arm has none."""

    figure: Figure
    share: float | None = None
    """Of the largest in the row, from 0 to 1: the length of the bar."""
    times: str = ""
    """How many times the first arm's value this is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measurement of every arm."""

    label: str
    note: str
    cells: list[Cell]


def make_rows(arms: Sequence[ArmResult]) -> list[Row]:
    """Make every row of the table, one cell per arm."""
    kinds = " or ".join(sorted({arm.memory_kind for arm in arms if arm.memory_kind}))
    shapes: tuple[tuple[str, str, Callable[[ArmResult], Figure | None]], ...] = (
        (
            "Trainable parameters",
            "and their share of the UNet with its adapter",
            measure_parameters,
        ),
        ("Adapter file", "safetensors", measure_adapter),
        (
            "Peak memory",
            f"while training: {kinds}; {write_n(1)} run" if kinds else "",
            measure_memory,
        ),
        ("Seconds per step", "median; p25 to p75; n steps after warm-up", measure_seconds),
        ("Waiting for pictures", "share of the time of n steps after warm-up", measure_idleness),
        ("Training loss", "mean over the last n steps", measure_training_loss),
        (
            "Held-out loss",
            f"base {ARROW} adapted, standard errors over pictures; n = pictures times timesteps",
            measure_held_out_loss,
        ),
        (
            "Change in held-out loss",
            "adapted minus base, paired, with its standard error; lower is better",
            measure_change,
        ),
        (
            "Best checkpoint",
            "lowest held-out loss on the way, over the first n entries of the table",
            name_best,
        ),
        ("Trace hash", "of the pictures, timesteps and noise that were seen", name_trace),
    )
    return [
        Row(label=label, note=note, cells=_compare([measure(arm) for arm in arms]))
        for label, note, measure in shapes
    ]


def _compare(figures: list[Figure | None]) -> list[Cell]:
    """Set the figures of a row in proportion to the largest and to the first."""
    sizes = [figure.size for figure in figures if figure and figure.size]
    return [_cell(figure, sizes) for figure in figures]


def _cell(figure: Figure | None, sizes: list[float]) -> Cell:
    if figure is None:
        return Cell(figure=Figure(value=MISSING))
    if figure.size is None or not sizes:
        return Cell(figure=figure)
    times = write_times(figure.size / sizes[0]) if len(sizes) > 1 else ""
    return Cell(figure=figure, share=figure.size / max(sizes), times=times)
