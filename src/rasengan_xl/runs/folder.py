"""The folder of one run."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from rasengan_xl.config.settings import RunSettings
from rasengan_xl.errors import OutputError
from rasengan_xl.runs.records import DatasetFacts, Machine, RunSummary, StepRecord

Kind = TypeVar("Kind", bound=BaseModel)


class RunFolder:
    """The folder of one run, and the only place that knows the names of its files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings_file = path / "settings.json"
        self.machine_file = path / "machine.json"
        self.dataset_file = path / "dataset.json"
        self.steps_file = path / "steps.jsonl"
        self.checkpoint_file = path / "checkpoint.safetensors"
        self.adapter_file = path / "pytorch_lora_weights.safetensors"
        self.summary_file = path / "summary.json"

    @property
    def has_origin(self) -> bool:
        """Whether the run came far enough to say where it takes place and what it sees."""
        return self.machine_file.exists() and self.dataset_file.exists()

    def check_unused(self) -> None:
        """Refuse a folder that already holds something.

        Raises:
            OutputError: It does.
        """
        refuse_used_folder(self.path, "continue it with --resume, or choose another --out")

    def start(self, settings: RunSettings) -> None:
        """Make the folder for a new run."""
        self.check_unused()
        self.path.mkdir(parents=True, exist_ok=True)
        write_whole(self.settings_file, settings.model_dump_json(indent=2))

    def check_resumable(self, settings: RunSettings) -> None:
        """Refuse to continue a run with other settings than it was begun with.

        Raises:
            OutputError: There is no run here, or it was begun with other settings.
        """
        if settings != self.read_settings():
            raise OutputError(
                f"{self.path}: was begun with other settings (see {self.settings_file.name}); "
                "continue it unchanged, or choose another --out"
            )

    def check_dataset(self, now: DatasetFacts) -> None:
        """Refuse to continue a run on other pictures than it was begun with.

        Raises:
            OutputError: The dataset has changed.
        """
        if not self.dataset_file.exists():
            return  # it was stopped before it had seen any
        begun = read_record(DatasetFacts, self.dataset_file)
        if begun.fingerprint != now.fingerprint:
            raise OutputError(
                f"{self.path}: the dataset {now.source} has changed since this run was begun "
                f"(see {self.dataset_file.name}); start anew with another --out"
            )

    def read_settings(self) -> RunSettings:
        """Read back what the run depends on."""
        try:
            return RunSettings.model_validate_json(self.settings_file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise OutputError(
                f"{self.path}: holds no run (no {self.settings_file.name})"
            ) from error
        except ValidationError as error:
            raise OutputError(f"{self.settings_file}: is not a run's settings") from error

    def write_origin(self, machine: Machine, dataset: DatasetFacts) -> None:
        """Keep where the run takes place and what it sees."""
        write_whole(self.machine_file, machine.model_dump_json(indent=2))
        write_whole(self.dataset_file, dataset.model_dump_json(indent=2))

    def write_summary(self, summary: RunSummary) -> None:
        """Keep what the run cost and gave."""
        write_whole(self.summary_file, summary.model_dump_json(indent=2))

    def append(self, record: StepRecord) -> None:
        """Add one step to the log."""
        with self.steps_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record.to_json()) + "\n")

    def records(self) -> list[StepRecord]:
        """Read the log back."""
        if not self.steps_file.exists():
            return []
        lines = self.steps_file.read_text(encoding="utf-8").splitlines()
        return [StepRecord(**json.loads(line)) for line in lines if line.endswith("}")]

    def keep_records(self, records: Iterable[StepRecord]) -> None:
        """Rewrite the log with these steps only."""
        lines = "".join(json.dumps(record.to_json()) + "\n" for record in records)
        write_whole(self.steps_file, lines)


def refuse_used_folder(path: Path, remedy: str) -> None:
    """Refuse an output folder that holds anything, before any work is done."""
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path}: is a file; choose another --out")
    if path.is_dir() and any(path.iterdir()):
        raise OutputError(f"{path}: already holds something; {remedy}")


def read_record(kind: type[Kind], file: Path) -> Kind:
    """Read one JSON record back."""
    try:
        return kind.model_validate_json(file.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise OutputError(f"{file}: is missing or not what this version writes") from error


def write_whole(file: Path, text: str) -> None:
    """Write a file so that it is never seen half-written."""
    draft = file.with_name(f"{file.name}.part")
    draft.write_text(text if text.endswith("\n") or not text else f"{text}\n", encoding="utf-8")
    draft.replace(file)
