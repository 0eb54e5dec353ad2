"""What lies in a comparison's folder, checked as it is read."""

import math
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from rasengan_xl.comparison.result import RESULT_FILE, Comparison
from rasengan_xl.errors import OutputError
from rasengan_xl.runs.folder import RunFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class LossHistory:
    """The training loss of a run, by optimizer step, in order."""

    losses: dict[int, float]
    left_out: int = 0
    """Lines that hold no finite loss, or were cut short when the run died."""


class _StepLine(BaseModel):
    """The part of a line of `steps.jsonl` that the page shows."""

    model_config = ConfigDict(extra="ignore")

    step: int
    loss: float


def read_comparison(folder: Path) -> Comparison:
    """Read the numbers of a comparison.

    Raises:
        OutputError: The file is missing or is not the result of a comparison.
    """
    file = folder / RESULT_FILE
    try:
        text = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise OutputError(f"{file}: not found; name the folder of a `rasengan compare`") from None
    except OSError as error:
        raise OutputError(f"{file}: cannot be read ({error.strerror}); check the path") from None
    try:
        return Comparison.model_validate_json(text)
    except ValidationError as error:
        raise OutputError(
            f"{file}: {_first_complaint(error)}; run `rasengan compare` again to rewrite it"
        ) from None


def read_histories(comparison: Comparison, folder: Path) -> dict[str, LossHistory]:
    """Read the losses of every run, by its folder."""
    runs = (run.run for arm in comparison.arms for run in arm.runs)
    return {
        run: read_losses(folder / run) if has_own_losses(folder, run) else LossHistory(losses={})
        for run in runs
    }


def has_own_losses(folder: Path, run: str) -> bool:
    """Tell whether the losses of a run lie within the folder of its comparison."""
    return lies_within(folder, RunFolder(folder / run).steps_file)


def lies_within(folder: Path, file: Path) -> bool:
    """Tell whether a file that a comparison names lies in its own folder, links followed.

    A comparison from elsewhere could name any file of this machine; what it holds would then be in
    a page that is shown around.
    """
    try:
        return file.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # a circle of links, or no path at all
        return False


def read_losses(run: Path) -> LossHistory:
    """Read the losses of a run; a step that a resumed run repeated counts as it was last."""
    file = RunFolder(run).steps_file
    if not file.is_file():
        return LossHistory(losses={})
    losses: dict[int, float] = {}
    left_out = 0
    for line in file.read_bytes().splitlines():
        record = _read_line(line)
        if record is None:
            left_out += 1
        else:
            losses[record.step] = record.loss
    return LossHistory(losses=dict(sorted(losses.items())), left_out=left_out)


def _read_line(line: bytes) -> _StepLine | None:
    try:
        record = _StepLine.model_validate_json(line)
    except ValidationError:
        return None
    return record if math.isfinite(record.loss) else None


def _first_complaint(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = " ".join(first["msg"].split())
    return f"{place}: {message}" if place else message
