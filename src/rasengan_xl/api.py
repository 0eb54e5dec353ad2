"""The verbs of the command line as functions, for notebooks and programs.

Each runs to its end and returns what it made.  To follow the work, iterate what it is built
on: `run_training`, `run_comparison`, `prepare_dataset`, `generate_pictures`, `export_adapters` and
`verify_adapter` yield as they go.
"""

import warnings
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rasengan_xl.adapters.start_file import settle_start
from rasengan_xl.adapters.verification.verify import verify_adapter
from rasengan_xl.adapters.writing.export import Exported
from rasengan_xl.adapters.writing.several import export_adapters
from rasengan_xl.comparison.execute import run_comparison
from rasengan_xl.comparison.result import RESULT_FILE, Comparison
from rasengan_xl.comparison.start_arms import settle_arms
from rasengan_xl.config.command_line import write_command
from rasengan_xl.config.comparison import load_comparison
from rasengan_xl.config.recipe import load_recipe, overridden_keys, write_override
from rasengan_xl.config.requests import drawing_settings, export_settings
from rasengan_xl.generation.generate import Drawn, Wanted, generate_pictures
from rasengan_xl.generation.prompts import as_lines, read_prompts
from rasengan_xl.preparation.prepare import prepare_dataset
from rasengan_xl.preparation.records import AccountSummary
from rasengan_xl.report.page import write_report
from rasengan_xl.runs.folder import RunFolder, read_record
from rasengan_xl.runs.records import RunSummary, StageProgress
from rasengan_xl.runs.verification import Verification
from rasengan_xl.sdxl.compute import choose_compute
from rasengan_xl.sdxl.model_folder import find_model
from rasengan_xl.training.interruption import stop_on_interrupt
from rasengan_xl.training.run import run_training

Outcome = TypeVar("Outcome")


def compare(
    name: str = "mini", overrides: Sequence[str] = (), *, out: Path, only: Sequence[str] = ()
) -> Comparison:
    """Train every arm under identical conditions, and write the page.

    What is finished in the folder is kept, so that a call that was broken off goes on.

    Args:
        name: A comparison's name or TOML file.
        overrides: `dotted.key=value` items.
        out: Folder for runs, pictures, `comparison.json` and `report.html`.
        only: Arms to train now; all, if none is named.
    """
    command = write_command("compare", name, overrides, out)
    settings = settle_arms(load_comparison(name, overrides), overrides)
    for _ in run_comparison(settings, out, only=only, command=command):
        pass
    write_report(out)
    return read_record(Comparison, out / RESULT_FILE)


def train(
    recipe: str,
    overrides: Sequence[str] = (),
    *,
    out: Path,
    resume: bool = False,
    start_from: Path | None = None,
) -> RunSummary:
    """Train one adapter into the folder `out`.

    Args:
        recipe: A recipe's name or TOML file.
        overrides: `dotted.key=value` items.
        out: The run's folder.
        resume: Continue the run that the folder holds.
        start_from: A run's folder or an adapter's file to go on from; absent: a fresh adapter.
    """
    folder = RunFolder(out)
    items = list(overrides)
    if start_from is not None:
        items.append(write_override("adapter.start_from", str(start_from)))
    settings = settle_start(load_recipe(recipe, items), overridden_keys(items))
    work = run_training(settings, folder, resume=resume)
    for record in stop_on_interrupt(work):
        if isinstance(record, StageProgress) and record.note:
            warnings.warn(record.note, stacklevel=2)
    return read_record(RunSummary, folder.summary_file)


def generate(
    adapters: Path | Sequence[Path],
    prompts: Path | Sequence[str],
    *,
    out: Path,
    base_model: str | None = None,
    **settings: Any,
) -> Drawn:
    """Draw base beside adapted from the same noise, a sweep of strengths, or of checkpoints.

    Args:
        adapters: A run's folder or an adapter's file, or several.
        prompts: What to draw, or a file that tells, one a line.
        out: Folder for pictures and sheets; they are numbered on from those that are there.
        base_model: What to draw on, if not what the run was trained on.
        settings: Fields of `DrawingSettings`, such as `seeds=(0, 1)`, `strengths=(0, 0.5, 1)`,
            `scheduler="euler-a"` or `memory="low"`.
    """
    wanted = Wanted(
        adapters=(adapters,) if isinstance(adapters, Path) else tuple(adapters),
        base_model=base_model,
        lines=read_prompts(prompts) if isinstance(prompts, Path) else as_lines(prompts),
        settings=drawing_settings(**settings),
        out=out,
    )
    work = generate_pictures(wanted)
    while True:
        try:
            record = next(work)
        except StopIteration as end:
            return end.value
        if isinstance(record, StageProgress) and record.note:
            warnings.warn(record.note, stacklevel=2)


def export(
    adapter: Path | Sequence[Path],
    *,
    to: str,
    out: Path,
    base_model: str | None = None,
    **options: Any,
) -> Exported:
    """Write an adapter for another program, and check what that will make of it.

    Args:
        adapter: A run's folder or an adapter's file; of several, one is made.
        to: `diffusers`, `kohya`, `comfyui`, `a1111` or `merged`.
        out: What to write: a `.safetensors` file, or a folder in diffusers' layout.
        base_model: The base, if not the run's own.
        options: `target`, `dtype`, `rank`, `weights` and others, as `ExportSettings` has them.
    """
    adapters = [adapter] if isinstance(adapter, Path) else adapter
    return _run(export_adapters(adapters, base_model, out, export_settings(to=to, **options)))


def prepare(recipe: str, overrides: Sequence[str] = (), *, out: Path) -> AccountSummary:
    """Check a dataset, encode it once, and write what happens to each picture.

    Args:
        recipe: A recipe's name or TOML file.
        overrides: `dotted.key=value` items.
        out: Folder for the account and the contact sheets.
    """
    settings = load_recipe(recipe, overrides)
    model = find_model(settings.base_model, settings.base_revision)
    return _run(prepare_dataset(settings, model, choose_compute(settings.compute), out)).summary


def verify(adapter: Path, base_model: str | None = None) -> Verification:
    """Prove that an adapter is whole and really applied, or find what is wrong with it.

    Args:
        adapter: A run's folder or an adapter's file.
        base_model: What to check it on, if not what the run was trained on.
    """
    return _run(verify_adapter(adapter, base_model))


def _run(work: Generator[StageProgress, None, Outcome]) -> Outcome:
    """Go through a piece of work to its end, and return what it comes to."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value
