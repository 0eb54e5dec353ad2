"""What each verb does with the records that the library yields: show them, and end rightly."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from rasengan_xl.cli.console import console, follow, progress_board, say
from rasengan_xl.cli.quiet import quieten_progress_bars
from rasengan_xl.cli.sharing import finish_with_card
from rasengan_xl.config.recipe import load_recipe, overridden_keys, write_override
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.config.shipped import (
    comparison_names,
    describe_recipe,
    find_shipped,
    recipe_names,
)
from rasengan_xl.loading import loading
from rasengan_xl.runs.folder import RunFolder, read_record
from rasengan_xl.runs.records import RunSummary

if TYPE_CHECKING:
    from rasengan_xl.trackers.opening import TrackerKind


def settle_recipe(recipe: str, overrides: Sequence[str], start_from: Path | None) -> RunSettings:
    """Read a recipe; if it starts from an adapter, in that one's shape."""
    items = list(overrides)
    if start_from is not None:
        items.append(write_override("adapter.start_from", str(start_from)))
    settings = load_recipe(recipe, items)
    if settings.adapter.start_from is None:
        return settings
    from rasengan_xl.adapters.start_file import settle_start

    return settle_start(settings, overridden_keys(items))


def show_training(
    settings: RunSettings,
    path: Path,
    *,
    resume: bool,
    samples: int = 0,
    trackers: "Sequence[TrackerKind]" = (),
) -> None:
    """Train one adapter and say where it is; after a signal, how to continue.

    Under `torchrun` every process comes here, and the first one speaks.

    Args:
        settings: Everything the run depends on.
        path: The run's folder.
        resume: Continue the run that is there.
        samples: Held-out captions to draw when it is finished.
        trackers: Where every step is written, too.
    """
    with loading():
        from rasengan_xl.ranks import join_ranks
        from rasengan_xl.trackers.following import following
        from rasengan_xl.trackers.opening import open_tracker
        from rasengan_xl.training.interruption import Stopped, stop_on_interrupt
        from rasengan_xl.training.run import run_training

    quieten_progress_bars()
    folder = RunFolder(path)
    with join_ranks() as ranks:
        work = run_training(settings, folder, resume=resume, ranks=ranks)
        if trackers and ranks.is_first:
            described = settings.model_dump(mode="json")
            opened = [
                open_tracker(kind, path.parent / "trackers", path.name, described)
                for kind in trackers
            ]
            work = following(work, opened, folder.losses)
        try:
            with progress_board(shown=ranks.is_first) as board:
                for record in stop_on_interrupt(work, ranks):
                    board.show(record, steps=settings.training.steps)
        except Stopped as stop:
            if ranks.is_first:
                say(_describe_stop(folder))
            sys.exit(stop.status)
    if ranks.is_first:
        _say_what_is_there(folder)
        if settings.is_given:  # a card would say how it was trained
            _say_what_was_measured(folder)
        else:
            finish_with_card(folder, samples)


def _describe_stop(folder: RunFolder) -> str:
    if folder.checkpoints():
        return f"Stopped: {folder.path} holds what was learnt so far; continue with --resume"
    how = "continue with --resume" if folder.is_begun else "run the command again"
    return f"Stopped before the first step: {how}"


def _say_what_is_there(folder: RunFolder) -> None:
    say(f"The adapter is {folder.adapter_file}")
    if best := folder.best():
        say(
            f"The best by held-out loss is that of step {best.step} ({best.loss:.4f} over "
            f"{best.n}): {folder.best_adapter_file}"
        )


def _say_what_was_measured(folder: RunFolder) -> None:
    if loss := read_record(RunSummary, folder.summary_file).held_out_loss:
        say(
            f"Held-out loss {loss.adapted:.4f} ± {loss.adapted_standard_error:.4f}, of the base "
            f"{loss.base:.4f} ± {loss.base_standard_error:.4f} (n = {loss.n})"
        )


def show_preparation(settings: RunSettings, folder: Path) -> None:
    """Check and encode a dataset, say what is in it and where its account is."""
    with loading():
        from rasengan_xl.cli.preparation import preparation_tables
        from rasengan_xl.preparation.prepare import prepare_dataset
        from rasengan_xl.sdxl.compute import choose_compute
        from rasengan_xl.sdxl.model_folder import find_model

    quieten_progress_bars()
    compute = choose_compute(settings.compute)
    model = find_model(settings.base_model, settings.base_revision)
    with progress_board() as board:
        preparation = follow(prepare_dataset(settings, model, compute, folder), board.show)
    for table in preparation_tables(preparation):
        console.print(table)
    files = preparation.files
    for kind, where in (
        ("Each picture", files.pictures),
        ("These numbers", files.summary),
        ("Contact sheets", files.sheets[0].parent),
    ):
        console.print(f"{kind}: {where}", markup=False, highlight=False, soft_wrap=True)


def show_recipes() -> None:
    """List what ships, with what each is for."""
    for title, names in (("recipes", recipe_names()), ("comparisons", comparison_names())):
        table = Table("name", "what it is", title=title, title_justify="left", box=None)
        for name in names:
            table.add_row(name, describe_recipe(find_shipped(name)))
        console.print(table)
