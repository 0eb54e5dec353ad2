"""Track the runs of a comparison, whose records come mixed."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rasengan_xl.errors import DeviceError
from rasengan_xl.runs.records import StepRecord
from rasengan_xl.trackers.opening import TrackerKind, open_tracker
from rasengan_xl.trackers.tracker import Tracker


class SeveralRuns:
    """A tracker of each kind for every run, opened when the run takes its first step.

    One that cannot be opened, or fails, is left out for that run: no run ends for it.
    """

    def __init__(self, kinds: Sequence[TrackerKind], folder: Path) -> None:
        self._kinds = kinds
        self._folder = folder
        self._trackers: dict[str, list[Tracker]] = {}
        self._told: set[tuple[str, str]] = set()
        """Runs and kinds whose failure the user knows of."""

    def log(self, run: str, settings: Mapping[str, Any], record: StepRecord) -> list[str]:
        """Write down what a step of a run measured.

        Args:
            run: Its name.
            settings: Everything it depends on, as JSON values.
            record: What it measured.

        Returns:
            What the user must be told, one line each, once for each run and kind.
        """
        notes: list[str] = []
        if run not in self._trackers:
            self._trackers[run] = []
            notes += self._open(run, settings)
        for tracker in self._trackers[run]:
            tracker.log(record)
        return [*notes, *self._tell_failures(run, self._trackers[run])]

    def end(self, run: str) -> list[str]:
        """Keep everything of a run that has ended; one that is tried again begins anew.

        Returns:
            What could not be kept, one line each.
        """
        trackers = self._trackers.pop(run, [])
        for tracker in trackers:
            tracker.close()
        notes = list(self._tell_failures(run, trackers))
        self._told = {(name, kind) for name, kind in self._told if name != run}
        return notes

    def close(self) -> None:
        """Keep everything of every run."""
        for run in list(self._trackers):
            self.end(run)

    def _open(self, run: str, settings: Mapping[str, Any]) -> Iterator[str]:
        for kind in self._kinds:
            try:
                self._trackers[run].append(open_tracker(kind, self._folder, run, settings))
            except DeviceError as error:
                yield f"{run}: {error}; it is left out for this run"

    def _tell_failures(self, run: str, trackers: Sequence[Tracker]) -> Iterator[str]:
        for tracker in trackers:
            if tracker.failure is not None and (run, tracker.kind) not in self._told:
                self._told.add((run, tracker.kind))
                yield f"{run}: {tracker.kind} failed and is left out: {tracker.failure}"
