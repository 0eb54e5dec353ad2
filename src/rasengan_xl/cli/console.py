"""How the command line shows what the library yields."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from rasengan_xl.runs.records import StageProgress, StepRecord

Outcome = TypeVar("Outcome")

console = Console()

SECONDS_BETWEEN_LINES = 10.0
"""Where no bar can be drawn."""


class Notes:
    """What the user must be told besides progress: once, though every arm may say it."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said: set[str] = set()

    def pass_on(self, record: StageProgress | StepRecord) -> None:
        """Say a record's note, unless it was said before."""
        if isinstance(record, StageProgress) and record.note and record.note not in self._said:
            self._said.add(record.note)
            self._say(record.note)


class ProgressBoard:
    """One line for each part of the work: its stage, how far it is, what a step measures."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._notes = Notes(self.say)
        self._tasks: dict[str, TaskID] = {}
        self._stages: dict[str, str] = {}

    def show(self, record: StageProgress | StepRecord, part: str = "", steps: int = 0) -> None:
        """Show how far one part has come.

        Args:
            record: What it yielded.
            part: Its name, where there are several.
            steps: Optimizer steps it will take.
        """
        self._notes.pass_on(record)
        if isinstance(record, StepRecord):
            self._update(part, "train", record.step, steps)
            self._progress.update(self._tasks[part], detail=describe_step(record))
        else:
            self._update(part, record.stage, record.done, record.total)

    def finish(self, part: str, outcome: str) -> None:
        """Say on a part's line how it ended."""
        if part in self._tasks:  # it may have failed before it had anything to show
            self._progress.update(self._tasks[part], description=f"{part}: {outcome}")
            self._progress.stop_task(self._tasks[part])

    def say(self, text: str) -> None:
        """Print a line above the moving ones."""
        self._progress.console.print(text, markup=False, highlight=False)

    def _update(self, part: str, stage: str, done: int, total: int) -> None:
        if part not in self._tasks:
            self._tasks[part] = self._progress.add_task("", total=total, detail="")
        task = self._tasks[part]
        if self._stages.get(part) != stage:  # time left is of the stage, not of those before it
            self._stages[part] = stage
            name = f"{part}: {stage}" if part else stage
            self._progress.reset(task, total=total, description=name)
        self._progress.update(task, completed=done, total=total)


class LineBoard:
    """The same as lines of text, for notebooks, logs and pipes, which cannot redraw a bar."""

    def __init__(
        self, where: Console = console, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._where = where
        self._clock = clock
        self._notes = Notes(self.say)
        self._stage = ""
        self._next_line = 0.0

    def show(self, record: StageProgress | StepRecord, part: str = "", steps: int = 0) -> None:
        """Print a line when a stage begins or ends, and every few seconds in between."""
        self._notes.pass_on(record)
        if isinstance(record, StepRecord):
            stage, done, total, detail = "train", record.step, steps, describe_step(record)
        else:
            stage, done, total, detail = record.stage, record.done, record.total, ""
        name = f"{part}: {stage}" if part else stage
        now = self._clock()
        if name == self._stage and done < total and now < self._next_line:
            return
        self._stage, self._next_line = name, now + SECONDS_BETWEEN_LINES
        self.say(f"{name} {done}/{total} {detail}".rstrip())

    def finish(self, part: str, outcome: str) -> None:
        """Say how a part ended."""
        self.say(f"{part}: {outcome}")

    def say(self, text: str) -> None:
        """Print a line."""
        self._where.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress_board(
    *, shown: bool = True, where: Console = console
) -> Generator[ProgressBoard | LineBoard]:
    """Show progress while the work in the block goes on, or keep silent."""
    if not shown or not where.is_terminal:
        yield LineBoard(where if shown else Console(quiet=True))
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        TextColumn("{task.fields[detail]}", markup=False),
    )
    with Progress(*columns, console=where) as progress:
        yield ProgressBoard(progress)


def follow(
    work: Generator[StageProgress, None, Outcome], show: Callable[[StageProgress], None]
) -> Outcome:
    """Show all that a piece of work yields, and return what it comes to."""
    while True:
        try:
            record = next(work)
        except StopIteration as end:
            return end.value
        show(record)


def say(text: str) -> None:
    """Print a line as it is."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def describe_step(record: StepRecord) -> str:
    """Say in a few words what a step measured."""
    void = " (skipped: fp16 overflow)" if record.skipped else ""
    return (
        f"loss {record.loss:.3f} {record.seconds:.2f} s/step {record.peak_memory_gib:.2f} GiB{void}"
    )
