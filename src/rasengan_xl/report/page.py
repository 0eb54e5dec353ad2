"""One self-contained HTML page of a comparison, from its numbers and pictures alone."""

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from rasengan_xl.comparison.result import Comparison
from rasengan_xl.report.facts import list_dataset_facts, list_machine_facts
from rasengan_xl.report.figures import make_figures
from rasengan_xl.report.pictures import LONGEST_SIDE, collect_pictures
from rasengan_xl.report.reading import LossHistory, read_comparison, read_losses
from rasengan_xl.report.settings import flatten, group_shared, list_differences, write_setting
from rasengan_xl.report.table import make_rows
from rasengan_xl.report.wording import (
    CAVEAT,
    describe_comparison,
    describe_pictures,
    describe_traces,
    list_findings,
)
from rasengan_xl.runs.folder import write_whole

REPORT_FILE = "report.html"
COLOURS = 8
"""Arms beyond these share a colour with an earlier one; see `page.css`."""


def write_report(folder: Path) -> Path:
    """Write the page of a comparison into its folder, whole or not at all.

    Args:
        folder: Holds `comparison.json`, the pictures, and a folder per arm.

    Returns:
        The page, which needs no other file.

    Raises:
        OutputError: `comparison.json` is missing or malformed.
    """
    comparison = read_comparison(folder)
    histories = {arm.name: read_losses(folder / arm.run) for arm in comparison.arms}
    file = folder / REPORT_FILE
    write_whole(file, render_page(comparison, histories, folder))
    return file


def render_page(comparison: Comparison, histories: Mapping[str, LossHistory], folder: Path) -> str:
    """Return the page of a comparison.

    Args:
        comparison: The numbers.
        histories: By the name of the arm.
        folder: What the paths of the pictures are relative to.
    """
    arms = comparison.arms
    script = _read_asset("page.js")
    return _load_template().render(
        comparison=comparison,
        arms=arms,
        failed=[arm for arm in arms if arm.status == "failed"],
        colours=COLOURS,
        lede=describe_comparison(comparison),
        grid=collect_pictures(comparison, folder),
        longest_side=LONGEST_SIDE,
        how_drawn=describe_pictures(comparison),
        differences=list_differences(arms),
        rows=make_rows(arms),
        findings=list_findings(arms),
        caveat=CAVEAT,
        traces=describe_traces(arms),
        figures=make_figures(arms, histories),
        shared=group_shared(arms),
        # Prompts stand beside their pictures.
        picture_facts={
            key: write_setting(value)
            for key, value in flatten(comparison.picture_settings).items()
            if key != "prompts"
        },
        dataset_facts=list_dataset_facts(comparison.dataset),
        machine_facts=list_machine_facts(comparison.machine),
        packages=comparison.machine.packages if comparison.machine else {},
        style=_read_asset("page.css"),
        script=script,
        script_hash=_hash_script(script),
    )


def _load_template() -> Template:
    return Environment(
        loader=PackageLoader("rasengan_xl.report", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("page.html.jinja")


def _read_asset(name: str) -> str:
    return (resources.files("rasengan_xl.report") / "template" / name).read_text(encoding="utf-8")


def _hash_script(script: str) -> str:
    """Return what the page's security policy calls its own script, so that no other can run."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
