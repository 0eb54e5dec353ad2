"""How the command line shows what the library yields."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from rasengan_xl.runs.records import StageProgress, StepRecord

console = Console()
errors = Console(stderr=True)


class ProgressBoard:
    """One line for each stage of each part of the work, the last of them moving."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def show(self, record: StageProgress | StepRecord, part: str = "", steps: int = 0) -> None:
        """Show how far one part has come.

        Args:
            record: What it yielded.
            part: Its name, where there are several.
            steps: Optimizer steps it will take.
        """
        if isinstance(record, StepRecord):
            self._update(f"{part} train".strip(), record.step, steps, describe_step(record))
        else:
            self._update(f"{part} {record.stage}".strip(), record.done, record.total, "")

    def say(self, text: str) -> None:
        """Print a line above the moving ones."""
        self._progress.console.print(text, markup=False, highlight=False)

    def _update(self, name: str, done: int, total: int, detail: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total, detail="")
        self._progress.update(self._tasks[name], completed=done, total=total, detail=detail)


@contextmanager
def progress_board() -> Iterator[ProgressBoard]:
    """Show progress while the work in the block goes on."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield ProgressBoard(progress)


def describe_step(record: StepRecord) -> str:
    """Say in a few words what a step measured."""
    void = "  (skipped: fp16 overflow)" if record.skipped else ""
    return (
        f"loss {record.loss:.4f}  {record.seconds:.2f} s/step  "
        f"{record.peak_memory_gib:.2f} GiB{void}"
    )
