"""Show what was exported, and how near a program's own formula comes to the trained change."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from rasengan_xl.adapters.writing.export import Exported
from rasengan_xl.adapters.writing.several import export_adapters
from rasengan_xl.cli.console import follow, progress_board
from rasengan_xl.cli.quiet import quieten_progress_bars
from rasengan_xl.cli.verbs import say
from rasengan_xl.config.export_settings import ExportSettings


def show_export(
    adapters: Sequence[Path], base: str | None, out: Path, settings: ExportSettings
) -> None:
    """Export an adapter, or several as one, and say what was written and what was checked."""
    quieten_progress_bars()
    with progress_board() as board:
        exported = follow(export_adapters(adapters, base, out, settings), board.show)
    for line in describe_export(exported):
        say(line)


def describe_export(exported: Exported) -> list[str]:
    """Say in a few lines what came of it."""
    size = _size(exported.path) / 1e6
    worst = exported.worst
    if exported.target == "merged":
        purpose, by = ", the base with the adapter in it", "Checked against base plus change"
    else:
        purpose, by = f" for {exported.target}", "Checked by its own formula"
    lines = [
        f"Wrote {exported.path}{purpose}: {len(exported.deviations):,} layers, "
        f"{exported.precision}, {size:,.1f} MB",
        f"{by}: greatest deviation from the trained change "
        f"{worst.relative:.2g} of a layer's norm ({worst.layer}), "
        f"{max(each.largest for each in exported.deviations):.2g} of a single weight",
    ]
    if exported.approximated:
        lines.append(_describe_residual(exported))
    return lines + [f"note: {note}" for note in exported.notes]


def _describe_residual(exported: Exported) -> str:
    ranks = [layer.rank for layer in exported.approximated]
    worst = max(exported.approximated, key=lambda layer: layer.residual)
    return (
        f"Brought to a lower rank: {len(ranks):,} layers, rank {min(ranks)} to {max(ranks)} "
        f"(median {median(ranks):g}); left out {exported.overall_residual:.2%} of the whole change "
        f"(Frobenius norm), at most {worst.residual:.2%} of a layer's ({worst.layer})"
    )


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
