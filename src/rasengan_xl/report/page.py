"""One self-contained HTML page of a comparison, from its numbers and pictures alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rasengan_xl.comparison.result import Comparison
from rasengan_xl.report.accounts import (
    describe_comparison,
    describe_progress,
    list_incidents,
    list_outside,
)
from rasengan_xl.report.answer import write_answer
from rasengan_xl.report.arms import find_primary, place_arms
from rasengan_xl.report.data_tables import DataTable, write_tables
from rasengan_xl.report.extras import (
    describe_trial,
    list_at_equal_time,
    list_both_bases,
    list_sizes,
)
from rasengan_xl.report.facts import (
    describe_drawing,
    list_dataset_facts,
    list_machine_facts,
    list_plain,
    list_work_facts,
)
from rasengan_xl.report.listings import list_everything, summarize_runs
from rasengan_xl.report.loss_charts import draw_losses, list_losses
from rasengan_xl.report.measure_table import group_details, group_measures, tabulate_measures
from rasengan_xl.report.numbers import write_rate
from rasengan_xl.report.own_script import REPORT_FILE
from rasengan_xl.report.pareto import draw_tradeoffs
from rasengan_xl.report.pictures import collect_nearest, collect_wall, find_yardstick
from rasengan_xl.report.reading import LossHistory, read_comparison, read_histories
from rasengan_xl.report.sameness import LETTERS, compare_traces
from rasengan_xl.report.settings import group_shared, list_differences
from rasengan_xl.report.strata_chart import draw_strata, list_strata
from rasengan_xl.report.svg import Chart
from rasengan_xl.report.templates import render
from rasengan_xl.report.verdict_chart import draw_verdicts
from rasengan_xl.report.verdict_table import make_verdict_table, tabulate_verdicts
from rasengan_xl.runs.folder import write_whole


def write_report(folder: Path) -> Path:
    """Write the page of a comparison and its tables into its folder, each whole or not at all.

    Args:
        folder: Holds `comparison.json`, the pictures, and a folder per run.

    Returns:
        The page, which needs no other file.

    Raises:
        OutputError: `comparison.json` is missing or malformed.
    """
    comparison = read_comparison(folder)
    histories = read_histories(comparison, folder)
    charts = draw_charts(comparison, histories)
    write_tables(list_tables(comparison, histories, charts), folder)
    file = folder / REPORT_FILE
    write_whole(file, render_page(comparison, charts, folder))
    return file


def draw_charts(
    comparison: Comparison, histories: Mapping[str, LossHistory]
) -> dict[str, list[Chart]]:
    """Draw everything that the figures allow, by the part of the page it stands in."""
    strata, verdicts = draw_strata(comparison), draw_verdicts(comparison)
    return {
        "tradeoffs": draw_tradeoffs(comparison),
        "verdicts": [verdicts] if verdicts else [],
        "losses": draw_losses(comparison, histories),
        "strata": [strata] if strata else [],
    }


def list_tables(
    comparison: Comparison,
    histories: Mapping[str, LossHistory],
    charts: Mapping[str, list[Chart]],
) -> list[DataTable]:
    """List every figure of the page, as the tables that lie beside it."""
    tables = [
        tabulate_measures(comparison.measures),
        tabulate_verdicts(comparison),
        list_strata(comparison),
        *list_everything(comparison),
        list_losses(comparison, histories),
        *(chart.table for part in charts.values() for chart in part),
    ]
    return list({table.name: table for table in tables}.values())


def render_page(comparison: Comparison, charts: Mapping[str, list[Chart]], folder: Path) -> str:
    """Return the page of a comparison.

    Args:
        comparison: The numbers.
        charts: What `draw_charts` made of them.
        folder: What the paths of the pictures are relative to.
    """
    return render(
        "page.html.jinja",
        title=comparison.name,
        comparison=comparison,
        charts=charts,
        **_collect_evidence(comparison, folder),
        **_collect_conditions(comparison, folder),
    )


def _collect_evidence(comparison: Comparison, folder: Path) -> dict[str, Any]:
    primary = find_primary(comparison)
    time, at_time = list_at_equal_time(comparison)
    return {
        "answer": write_answer(comparison),
        "lede": describe_comparison(comparison),
        "progress": describe_progress(comparison),
        "places": place_arms(comparison),
        "primary": primary,
        "wall": collect_wall(comparison, folder),
        "how_drawn": describe_drawing(comparison),
        "groups": group_measures(comparison.measures),
        "details": group_details(comparison.measures),
        "has_base": any(measure.base for measure in comparison.measures),
        "verdicts": make_verdict_table(comparison),
        "sizes": {arm.name: sizes for arm in comparison.arms if (sizes := list_sizes(arm))},
        "both_bases": list_both_bases(comparison),
        "time": time,
        "at_time": at_time,
        "sweep": {
            name: [(write_rate(t.learning_rate), describe_trial(t), t.chosen) for t in trials]
            for name, trials in comparison.sweep.items()
        },
        "nearest": collect_nearest(comparison, folder),
        "yardstick": find_yardstick(comparison),
    }


def _collect_conditions(comparison: Comparison, folder: Path) -> dict[str, Any]:
    incidents = [*list_outside(comparison, folder), *list_incidents(comparison)]
    return {
        "differences": list_differences(comparison.arms),
        "shared": group_shared(comparison.arms),
        "traces": compare_traces(comparison.arms, comparison.seeds),
        "letters": LETTERS,
        "runs": summarize_runs(comparison),
        "incidents": incidents,
        "went_wrong": any(incident.alarm for incident in incidents),
        "machine_facts": list_machine_facts(comparison.machine),
        "packages": comparison.machine.packages if comparison.machine else {},
        "dataset_facts": list_dataset_facts(comparison.dataset),
        "work_facts": list_work_facts(comparison),
        "picture_facts": list_plain(comparison.picture_settings),
        "scoring_facts": list_plain(comparison.scoring_settings),
    }
