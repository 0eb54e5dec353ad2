"""How a comparison stands, from the files of its folder alone."""

import threading
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from rasengan_xl.comparison.result import RESULT_FILE, Comparison, RunResult
from rasengan_xl.errors import OutputError
from rasengan_xl.live.pictures import PictureWatch
from rasengan_xl.live.records import LiveRun, LiveState
from rasengan_xl.live.run_watch import RunWatch
from rasengan_xl.report.page import REPORT_FILE
from rasengan_xl.runs.folder import read_record

Kind = TypeVar("Kind", bound=BaseModel)


class _Training(BaseModel):
    model_config = ConfigDict(extra="ignore")

    steps: int


class _Arm(BaseModel):
    model_config = ConfigDict(extra="ignore")

    training: _Training


class _Settings(BaseModel):
    """The part of a comparison's settings that says which runs there will be."""

    model_config = ConfigDict(extra="ignore")

    name: str
    seeds: tuple[int, ...]
    arms: dict[str, _Arm]


class FolderWatch:
    """Follows a comparison; may be asked from several threads at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._settings = _RecordWatch(_Settings, folder / "settings.json")
        self._result = _RecordWatch(Comparison, folder / RESULT_FILE)
        self._pictures = PictureWatch(folder)
        self._runs: dict[tuple[str, int], RunWatch] = {}
        self._lock = threading.Lock()

    def look(self) -> LiveState:
        """Say how the comparison stands now; a folder that does not exist yet is `preparing`."""
        with self._lock:
            settings, result = self._settings.look(), self._result.look()
            runs = self._look_at_runs(settings, result) if settings else []
            return LiveState(
                name=settings.name if settings else self._folder.absolute().name,
                status=_tell_status(settings, result),
                has_report=(self._folder / REPORT_FILE).is_file(),
                step=sum(run.step for run in runs),
                steps=sum(run.steps for run in runs),
                seconds_left=estimate_seconds_left(runs),
                runs=runs,
                pictures=self._pictures.look(),
                notes=[*self._settings.notes, *self._result.notes],
            )

    def _look_at_runs(self, settings: _Settings, result: Comparison | None) -> list[LiveRun]:
        results = _index_runs(result)
        runs: list[LiveRun] = []
        for arm, plan in settings.arms.items():
            for seed in settings.seeds:
                if (arm, seed) not in self._runs:
                    folder = self._folder / "arms" / arm / f"seed-{seed}"
                    self._runs[arm, seed] = RunWatch(folder, arm, seed)
                run = self._runs[arm, seed]
                runs.append(run.look(plan.training.steps, results.get((arm, seed))))
        return runs


def estimate_seconds_left(runs: Iterable[LiveRun]) -> float | None:
    """Estimate how long the steps still take, with as many runs side by side as now.

    A run that has not begun is taken to be as fast as its arm was, or else as all runs are.
    """
    runs = list(runs)
    paces = [(run.arm, run.seconds_per_step) for run in runs if run.seconds_per_step]
    if not paces:
        return None
    seconds = 0.0
    for run in runs:
        if run.stage in {"waiting", "starting", "training"}:
            of_arm = [pace for arm, pace in paces if arm == run.arm]
            pace = run.seconds_per_step or fmean(of_arm or [pace for _, pace in paces])
            seconds += pace * (run.steps - run.step)
    abreast = sum(run.stage in {"starting", "training"} for run in runs)
    return seconds / max(1, abreast)


def _tell_status(
    settings: _Settings | None, result: Comparison | None
) -> Literal["preparing", "running", "finished"]:
    if result and result.status == "finished":
        return "finished"
    return "running" if settings else "preparing"


def _index_runs(result: Comparison | None) -> dict[tuple[str, int], RunResult]:
    arms = result.arms if result else []
    return {(arm.name, run.seed): run for arm in arms for run in arm.runs}


class _RecordWatch(Generic[Kind]):
    """Reads a record again whenever its file is another than before."""

    def __init__(self, kind: type[Kind], file: Path) -> None:
        self._kind, self._file = kind, file
        self._stamp: tuple[int, int] | None = None
        self._record: Kind | None = None
        self.notes: list[str] = []
        """Why the file could not be read, if so."""

    def look(self) -> Kind | None:
        """Return the record; None: there is none that can be read."""
        try:
            status = self._file.stat()
        except OSError:  # not there yet
            self._stamp, self._record, self.notes = None, None, []
            return None
        stamp = status.st_mtime_ns, status.st_ino
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._record, self.notes = read_record(self._kind, self._file), []
            except OutputError as error:
                self._record, self.notes = None, [str(error)]
        return self._record
