"""What `rasengan generate` shows: how far it is, and where each picture is."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rasengan_xl.cli.console import follow, progress_board
from rasengan_xl.cli.quiet import quieten_progress_bars
from rasengan_xl.cli.verbs import say
from rasengan_xl.config.drawing_settings import DrawingSettings
from rasengan_xl.errors import RecipeError
from rasengan_xl.runs.records import StageProgress

if TYPE_CHECKING:
    from rasengan_xl.config.drawing_settings import PromptLine
    from rasengan_xl.generation.generate import Wanted

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What stands on the command line."""

    adapters: tuple[Path, ...]
    prompts: tuple[str, ...]
    prompt_file: Path | None
    held_out: int | None
    settings: DrawingSettings
    base_model: str | None
    out: Path


def show_drawing(asked: Asked) -> None:
    """Draw, and say where the pictures are; after Ctrl-C, what there is of them."""
    from rasengan_xl.generation.generate import Wanted

    quieten_progress_bars()
    drawn: list[Path] = []
    try:
        with progress_board() as board:
            lines = _collect_prompts(asked, board.show)
            wanted = Wanted(
                adapters=asked.adapters,
                base_model=asked.base_model,
                lines=lines,
                settings=asked.settings,
                out=asked.out,
            )
            sheets = _draw(wanted, drawn, board.show)
    except KeyboardInterrupt:
        say(f"Stopped: {len(drawn)} pictures are in {asked.out}")
        sys.exit(INTERRUPTED)
    for file in sheets or drawn:
        say(str(file))
    if sheets:
        say(f"Each of the {len(drawn)} pictures: {asked.out}")


def _draw(wanted: "Wanted", drawn: list[Path], show: Callable[[StageProgress], None]) -> list[Path]:
    from rasengan_xl.generation.generate import generate_pictures

    work = generate_pictures(wanted, show)
    while True:
        try:
            record = next(work)
        except StopIteration as end:
            return end.value.sheets
        if isinstance(record, StageProgress):
            show(record)
        else:
            drawn.append(record.file)


def _collect_prompts(asked: Asked, show: Callable[[StageProgress], None]) -> "list[PromptLine]":
    """Put together what is to be drawn, from wherever it is named."""
    from rasengan_xl.generation.ground import read_run
    from rasengan_xl.generation.prompts import as_lines, held_out_prompts, read_prompts

    lines = as_lines(asked.prompts)
    if asked.prompt_file is not None:
        lines += read_prompts(asked.prompt_file)
    if asked.held_out is not None:
        if not asked.adapters:
            raise RecipeError("generate: --held-out needs a run, whose captions they are")
        settings = read_run(asked.adapters[0])
        lines += follow(held_out_prompts(settings, asked.held_out), show)
    return lines
