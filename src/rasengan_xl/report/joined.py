"""Several comparisons on one page: their answers and figures side by side, their verdicts apart."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rasengan_xl.comparison.result import Comparison
from rasengan_xl.config.comparison_settings import BASE
from rasengan_xl.errors import OutputError
from rasengan_xl.evaluation.records import Measure
from rasengan_xl.report.accounts import describe_comparison, describe_progress
from rasengan_xl.report.answer import Answer, write_answer
from rasengan_xl.report.arms import find_primary, place_arms
from rasengan_xl.report.data_tables import DataTable, write_tables
from rasengan_xl.report.facts import describe_drawing
from rasengan_xl.report.measure_table import Cell, list_estimate, make_row
from rasengan_xl.report.own_script import REPORT_FILE
from rasengan_xl.report.pictures import Wall, collect_wall
from rasengan_xl.report.reading import read_comparison
from rasengan_xl.report.templates import render
from rasengan_xl.runs.folder import write_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One comparison of a joined page."""

    name: str
    """Unlike that of any other part."""
    comparison: Comparison
    answer: Answer
    primary: Measure | None
    lede: str
    progress: str
    places: dict[str, int]
    wall: Wall
    how_drawn: str
    cells: dict[str, dict[str, Cell]]
    """By arm, or `base`, and key of the measure."""


def write_joined_report(folders: Sequence[Path], out: Path) -> Path:
    """Write one page of several comparisons, and the table of their shared measures.

    Args:
        folders: Those of the comparisons, in the order of the page.
        out: Folder for `report.html` and `tables/`.

    Returns:
        The page, which needs no other file.

    Raises:
        OutputError: A folder holds no comparison, or `out` is one of them or a file.
    """
    if out.resolve() in {folder.resolve() for folder in folders}:
        raise OutputError(f"{out}: has a page of its own comparison; choose another --out")
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file; choose another --out")
    comparisons = [read_comparison(folder) for folder in folders]
    names = name_apart(comparisons, folders)
    shared = share_measures(comparisons)
    out.mkdir(parents=True, exist_ok=True)
    write_tables([_tabulate(names, comparisons, shared)], out)
    parts = [
        _collect(name, comparison, folder)
        for name, comparison, folder in zip(names, comparisons, folders, strict=True)
    ]
    file = out / REPORT_FILE
    write_whole(file, _render(parts, shared))
    return file


def share_measures(comparisons: Sequence[Comparison]) -> list[Measure]:
    """Return the measures that at least two comparisons took and mean the same by, once each."""
    found: dict[str, list[Measure]] = {}
    for comparison in comparisons:
        for measure in comparison.measures:
            found.setdefault(measure.key, []).append(measure)
    return [same[0] for same in found.values() if len(same) > 1 and _agree(same)]


def name_apart(comparisons: Sequence[Comparison], folders: Sequence[Path]) -> list[str]:
    """Name every comparison; those of one name by the end of their paths that tells them apart.

    A folder that is given twice is numbered.
    """
    paths: dict[str, list[Path]] = {}
    names: list[str] = []
    for comparison, folder in zip(comparisons, folders, strict=True):
        paths.setdefault(comparison.name, []).append(folder.resolve())
    seen: Counter[str] = Counter()
    for comparison, folder in zip(comparisons, folders, strict=True):
        name, same = comparison.name, paths[comparison.name]
        if len(same) > 1:
            name = f"{name} ({_find_ending(folder.resolve(), same)})"
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}, {seen[name]}")
    return names


def _find_ending(path: Path, others: Sequence[Path]) -> str:
    """Return the shortest end of a path that no other has."""
    unlike = [other.parts for other in others if other != path]
    depths = range(1, len(path.parts) + 1)
    depth = next(d for d in depths if all(o[-d:] != path.parts[-d:] for o in unlike))
    return Path(*path.parts[-depth:]).as_posix()


def _agree(measures: Sequence[Measure]) -> bool:
    return len({(measure.unit, measure.direction) for measure in measures}) == 1


def _collect(name: str, comparison: Comparison, folder: Path) -> Part:
    cells: dict[str, dict[str, Cell]] = {}
    for measure in comparison.measures:
        for arm, cell in make_row(measure).cells.items():
            cells.setdefault(arm, {})[measure.key] = cell
    return Part(
        name=name,
        comparison=comparison,
        answer=write_answer(comparison),
        primary=find_primary(comparison),
        lede=describe_comparison(comparison),
        progress=describe_progress(comparison),
        places=place_arms(comparison),
        wall=collect_wall(comparison, folder),
        how_drawn=describe_drawing(comparison),
        cells=cells,
    )


def _render(parts: Sequence[Part], shared: Sequence[Measure]) -> str:
    kept = {measure.key for measure in shared}
    alone = [
        f"{measure.label} ({part.name})"
        for part in parts
        for measure in part.comparison.measures
        if measure.key not in kept
    ]
    return render(
        "joined.html.jinja",
        title=", ".join(part.name for part in parts),
        parts=parts,
        shared=shared,
        alone=alone,
        longest_side=max(part.wall.longest_side for part in parts),
    )


def _tabulate(
    names: Sequence[str], comparisons: Sequence[Comparison], shared: Sequence[Measure]
) -> DataTable:
    kept = {measure.key for measure in shared}
    return DataTable(
        name="measures",
        title="Measures",
        columns=(
            "comparison",
            "measure",
            "unit",
            "arm",
            "value",
            "low",
            "high",
            "pictures",
            "seeds",
        ),
        rows=[
            (name, measure.key, measure.unit, arm, *list_estimate(estimate))
            for name, comparison in zip(names, comparisons, strict=True)
            for measure in comparison.measures
            if measure.key in kept
            for arm, estimate in (
                *(((BASE, measure.base),) if measure.base else ()),
                *measure.arms.items(),
            )
        ],
    )
