"""How one run stands, from the files of its folder alone."""

import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from rasengan_xl.comparison.result import RunResult
from rasengan_xl.errors import OutputError
from rasengan_xl.live.curve import Curve
from rasengan_xl.live.records import LiveRun, RunStage
from rasengan_xl.live.tail import Tail
from rasengan_xl.runs.folder import RunFolder, read_record
from rasengan_xl.runs.records import CheckpointLoss, RunSummary

Kind = TypeVar("Kind", bound=BaseModel)

_PACE_STEPS = 30
"""The pace is the median over so many of the latest steps."""


class _StepLine(BaseModel):
    """The part of a line of the log of steps that the live page shows."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    step: int
    loss: float
    seconds: float
    peak_memory_gib: float


class RunWatch:
    """Follows one run; each look reads only what was added since the last."""

    def __init__(self, folder: Path, arm: str, seed: int) -> None:
        self._folder = RunFolder(folder)
        self._arm, self._seed = arm, seed
        self._steps_log = Tail(self._folder.steps_file)
        self._losses_log = Tail(self._folder.held_out_file)
        self._forget_steps()
        self._checkpoints: dict[int, CheckpointLoss] = {}
        self._summary_stamp: tuple[int, int] | None = None
        self._summary: RunSummary | None = None

    def look(self, steps: int, result: RunResult | None) -> LiveRun:
        """Say how the run stands now.

        Args:
            steps: How many it is to take.
            result: What the comparison has written down about it so far.
        """
        self._follow_steps()
        self._follow_checkpoints()
        self._read_summary()
        stage = self._tell_stage(steps, result)
        is_training = stage == "training"
        pace = median(self._latest_seconds) if self._latest_seconds else None
        changed_at = self._steps_log.changed_at
        return LiveRun(
            arm=self._arm,
            seed=self._seed,
            stage=stage,
            reason=result.reason if result and stage == "failed" else None,
            step=self._step,
            steps=steps,
            seconds_per_step=pace,
            seconds_left=pace * (steps - self._step) if pace and is_training else None,
            seconds_silent=max(0.0, time.time() - changed_at)
            if changed_at and is_training
            else None,
            peak_memory_gib=self._peak_memory_gib,
            curve=self._curve.thin(),
            checkpoints=[loss for _, loss in sorted(self._checkpoints.items())],
            held_out_loss=self._summary.held_out_loss if self._summary else None,
        )

    def _follow_steps(self) -> None:
        lines, anew = self._steps_log.read()
        if anew:
            self._forget_steps()
        for record in _parse(lines, _StepLine):
            self._step = max(self._step, record.step)
            self._latest_seconds.append(record.seconds)
            self._peak_memory_gib = record.peak_memory_gib
            self._curve.add(record.step, record.loss)

    def _forget_steps(self) -> None:
        self._step = 0
        self._curve = Curve()
        self._latest_seconds: deque[float] = deque(maxlen=_PACE_STEPS)
        self._peak_memory_gib: float | None = None

    def _follow_checkpoints(self) -> None:
        lines, anew = self._losses_log.read()
        if anew:
            self._checkpoints = {}
        self._checkpoints |= {loss.step: loss for loss in _parse(lines, CheckpointLoss)}

    def _read_summary(self) -> None:
        """Read the summary if it is another than before."""
        try:
            status = self._folder.summary_file.stat()
            stamp = status.st_mtime_ns, status.st_ino
            if stamp != self._summary_stamp:
                self._summary = read_record(RunSummary, self._folder.summary_file)
                self._summary_stamp = stamp
        except (OSError, OutputError):  # not there: the run has not come so far
            self._summary, self._summary_stamp = None, None

    def _tell_stage(self, steps: int, result: RunResult | None) -> RunStage:
        if result and result.status != "missing":
            return result.status
        summary = self._summary
        if summary and summary.status == "finished":
            return "finished"
        if self._step >= steps and (steps or self._folder.is_begun):
            return "measuring"
        if summary and self._step <= summary.steps:
            return "stopped"  # else it was continued since
        if self._step:
            return "training"
        return "starting" if self._folder.is_begun else "waiting"


def _parse(lines: Iterable[bytes], kind: type[Kind]) -> list[Kind]:
    """Read what can be read, and is finite: JSON has no word for the rest.

    A line that is left out is the report's business, which counts them.
    """
    records: list[Kind] = []
    for line in lines:
        try:
            records.append(kind.model_validate_json(line))
        except ValidationError:
            continue
    return records
