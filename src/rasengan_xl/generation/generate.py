"""`generate` from end to end: adapters and prompts to pictures and sheets."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from rasengan_xl.config.drawing_settings import DrawingSettings, PromptLine
from rasengan_xl.errors import DeviceError, MemoryExhaustedError, RecipeError
from rasengan_xl.generation.easel import set_up
from rasengan_xl.generation.ground import find_common_ground
from rasengan_xl.generation.requests import list_wanted
from rasengan_xl.generation.sheet import DrawnPicture, Tell, draw_sheet, next_number
from rasengan_xl.generation.sheets import compose_sheets
from rasengan_xl.generation.subjects import list_subjects
from rasengan_xl.runs.folder import check_writable
from rasengan_xl.runs.records import StageProgress

_NO_MEMORY = "DefaultCPUAllocator: can't allocate memory"
"""What PyTorch says where main memory ends; on a GPU it has an error of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be drawn, with what, and where to."""

    adapters: Sequence[Path] = ()
    """Runs' folders or adapters' files; none: the base alone."""
    base_model: str | None = None
    """What to draw on, if not what the adapters were trained on."""
    lines: Sequence[PromptLine]
    settings: DrawingSettings
    out: Path
    """Folder for the pictures; they are numbered on from those that are there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What a command has drawn."""

    pictures: list[DrawnPicture]
    sheets: list[Path]
    """Several pictures side by side."""


def generate_pictures(
    wanted: Wanted, tell: Tell = lambda _: None
) -> Generator[StageProgress | DrawnPicture, None, Drawn]:
    """Draw everything that is wanted; each picture is saved as soon as it is drawn.

    Args:
        wanted: What.
        tell: Told of progress inside a batch, when nothing can be yielded.

    Raises:
        RasenganError: Something asked for cannot be had.
    """
    if not wanted.lines:
        raise RecipeError("generate: nothing to draw; give --prompt, --prompts or --held-out")
    next_number(wanted.out)
    check_writable(wanted.out)
    grounds = find_common_ground(wanted.adapters, wanted.base_model)
    subjects = list_subjects(wanted.adapters, grounds, wanted.settings)
    requests = list_wanted(wanted.lines, wanted.settings)
    pictures: list[DrawnPicture] = []
    with _explaining(wanted.settings):
        easel = yield from set_up(grounds[0], wanted.settings, requests, subjects)
        for record in draw_sheet(easel, requests, subjects, wanted.out, tell):
            if isinstance(record, DrawnPicture):
                pictures.append(record)
            yield record
    return Drawn(pictures=pictures, sheets=compose_sheets(pictures, wanted.out))


@contextmanager
def _explaining(settings: DrawingSettings) -> Generator[None]:
    """Turn what PyTorch lacks into one line."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryExhaustedError(_too_little(settings)) from error
    except RuntimeError as error:
        if _NO_MEMORY in str(error):
            raise MemoryExhaustedError(_too_little(settings)) from error
        if not (settings.compiled and _is_of_compiler(error)):
            raise
        reason = str(error).strip().splitlines()[0]
        raise DeviceError(f"--compile: this machine cannot ({reason}); leave it out") from error


def _too_little(settings: DrawingSettings) -> str:
    rungs = ["low", "lower", "lowest"]
    tried = rungs.index(settings.memory) + 1 if settings.memory in rungs else 0
    left = [f"--memory {rung}" for rung in rungs[tried:]]
    batch = ["--batch 1"] if settings.batch_size > 1 else []
    remedies = [*batch, *left[:1], "a smaller --size"]
    return f"generate: there is not enough memory; try {', or '.join(remedies)}"


def _is_of_compiler(error: RuntimeError) -> bool:
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))
