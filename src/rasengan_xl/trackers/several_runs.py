"""Track the runs of a comparison, whose records come mixed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rasengan_xl.runs.records import StepRecord
from rasengan_xl.trackers.opening import TrackerKind, open_tracker
from rasengan_xl.trackers.tracker import Tracker


class SeveralRuns:
    """A tracker of each kind for every run, opened when the run takes its first step."""

    def __init__(self, kinds: Sequence[TrackerKind], folder: Path) -> None:
        self._kinds = kinds
        self._folder = folder
        self._trackers: dict[str, list[Tracker]] = {}
        self._told: set[str] = set()

    def log(self, run: str, settings: Mapping[str, Any], record: StepRecord) -> list[str]:
        """Write down what a step of a run measured.

        Args:
            run: Its name.
            settings: Everything it depends on, as JSON values.
            record: What it measured.

        Returns:
            What the user must be told, one line each, once.

        Raises:
            DeviceError: A library does not take the run.
        """
        if run not in self._trackers:
            self._trackers[run] = [
                open_tracker(kind, self._folder, run, settings) for kind in self._kinds
            ]
        notes: list[str] = []
        for tracker in self._trackers[run]:
            tracker.log(record)
            if tracker.failure is not None and tracker.kind not in self._told:
                self._told.add(tracker.kind)
                notes.append(f"{tracker.kind} failed and is left out: {tracker.failure}")
        return notes

    def end(self, run: str) -> None:
        """Keep everything of a run that has ended; one that is tried again begins anew."""
        for tracker in self._trackers.pop(run, []):
            tracker.close()

    def close(self) -> None:
        """Keep everything of every run."""
        for run in list(self._trackers):
            self.end(run)
