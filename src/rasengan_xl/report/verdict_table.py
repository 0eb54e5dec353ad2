"""The tables of verdicts: a row for each pair of arms, a column for each measure."""

from collections.abc import Sequence
from dataclasses import dataclass

from rasengan_xl.comparison.result import Comparison
from rasengan_xl.evaluation.records import Measure, Verdict
from rasengan_xl.report.arms import list_verdicts
from rasengan_xl.report.data_tables import DataTable
from rasengan_xl.report.measure_table import DETAILS, GROUPS, is_detail
from rasengan_xl.report.numbers import (
    half_width,
    write_difference,
    write_interval,
    write_p_value,
    write_sample,
)

SYMBOLS = {
    "better": "\N{BLACK UP-POINTING TRIANGLE}",
    "worse": "\N{BLACK DOWN-POINTING TRIANGLE}",
    "no detectable difference": "\N{ALMOST EQUAL TO}",
    "not judged": "\N{EN DASH}",
}
KINDS = {"better": "told", "worse": "told", "no detectable difference": "tied", "not judged": "out"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One verdict, written out."""

    symbol: str
    outcome: str
    kind: str
    """`told`, `tied` or `out`: how it is set."""
    difference: str
    interval: str
    p_value: str
    sample: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Measures whose verdicts stand side by side."""

    title: str
    measures: list[tuple[str, str]]
    """Key and label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictTable:
    """All verdicts; no cell where a pair was not set against each other in a measure."""

    primary: Columns | None
    others: list[Columns]
    """By group, the details of one last."""
    unjudged: list[str]
    """Labels of the measures none of whose pairs is judged."""
    pairs: list[tuple[str, str]]
    cells: dict[tuple[str, str, str], Cell]
    """By first arm, second arm and key."""

    @property
    def judged(self) -> bool:
        """Whether any pair is judged in any measure."""
        return self.primary is not None or bool(self.others)


def make_verdict_table(comparison: Comparison) -> VerdictTable:
    """Lay out the verdicts, those of the primary measure apart from the others."""
    found = {m.key: list_verdicts(comparison, m.key) for m in comparison.measures}
    measures = [m for m in comparison.measures if found[m.key]]
    judged = [m for m in measures if any(v.outcome != "not judged" for v in found[m.key])]
    first = [m for m in judged if m.key == comparison.primary]
    units = {measure.key: measure.unit for measure in measures}
    verdicts = [verdict for measure in measures for verdict in found[measure.key]]
    return VerdictTable(
        primary=_name_columns("", first) if first else None,
        others=_group([m for m in judged if m not in first]),
        unjudged=[measure.label for measure in measures if measure not in judged],
        pairs=list(dict.fromkeys((v.first, v.second) for v in verdicts)),
        cells={(v.first, v.second, v.measure): _write(v, units[v.measure]) for v in verdicts},
    )


def _group(measures: Sequence[Measure]) -> list[Columns]:
    whole = [m for m in measures if not is_detail(m)]
    groups = {title: [m for m in whole if m.group == key] for key, title in GROUPS.items()}
    groups[DETAILS] = [m for m in measures if is_detail(m)]
    return [_name_columns(title, members) for title, members in groups.items() if members]


def _name_columns(title: str, measures: Sequence[Measure]) -> Columns:
    return Columns(title=title, measures=[(m.key, m.label) for m in measures])


def tabulate_verdicts(comparison: Comparison) -> DataTable:
    """List every verdict."""
    columns = ("measure", "first", "second", "outcome", "difference", "low", "high")
    return DataTable(
        name="verdicts",
        title="Verdicts",
        columns=(*columns, "p_value", "corrected_p_value", "pictures", "seeds"),
        rows=[
            (
                *(v.measure, v.first, v.second, v.outcome, v.difference, v.low, v.high),
                *(v.p_value, v.corrected_p_value, v.pictures, v.seeds),
            )
            for v in comparison.verdicts
        ],
    )


def _write(verdict: Verdict, unit: str) -> Cell:
    reach = half_width(verdict.low, verdict.high)
    return Cell(
        symbol=SYMBOLS[verdict.outcome],
        outcome=verdict.outcome,
        kind=KINDS[verdict.outcome],
        difference=write_difference(verdict.difference, unit, reach),
        interval=write_interval(verdict.low, verdict.high),
        p_value=write_p_value(verdict.corrected_p_value),
        sample=write_sample(verdict.pictures, verdict.seeds),
    )
