"""The folder of one run."""

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from torch import Tensor

from rasengan_xl.config.settings import RunSettings
from rasengan_xl.errors import DamagedFileError, OutputError
from rasengan_xl.runs.records import (
    BestCheckpoint,
    CheckpointLoss,
    DatasetFacts,
    Machine,
    ModelFacts,
    RunSummary,
    StepRecord,
    TableLosses,
)
from rasengan_xl.runs.resuming import BATCH_HEADER, explain_changes, global_batch
from rasengan_xl.tensor_file import UNREADABLE, read_header, write_tensors
from rasengan_xl.whole_file import (
    DRAFT_SUFFIX,
    append_line,
    bring_to_disk,
    read_lines,
    remove_drafts,
    remove_file,
    write_whole,
)

Kind = TypeVar("Kind", bound=BaseModel)

ADAPTER_FILE = "pytorch_lora_weights.safetensors"
"""The name that diffusers looks for in a folder."""


class RunFolder:
    """The folder of one run, and the only place that knows the names of its files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings_file = path / "settings.json"
        self.machine_file = path / "machine.json"
        self.dataset_file = path / "dataset.json"
        self.model_file = path / "model.json"
        self.steps_file = path / "steps.jsonl"
        self.held_out_file = path / "held_out.jsonl"
        self.table_losses_file = path / "held_out_table.json"
        self.checkpoints_folder = path / "checkpoints"
        self.adapter_file = path / ADAPTER_FILE
        self.best_adapter_file = path / "best" / ADAPTER_FILE
        self.best_file = path / "best" / "best.json"
        self.summary_file = path / "summary.json"
        self.diverged_file = path / "diverged.json"
        self.verification_file = path / "verification.json"
        self.samples_folder = path / "samples"
        self.card_file = path / "README.md"

    @property
    def has_origin(self) -> bool:
        """Whether the run came far enough to say where it takes place and what it sees."""
        return self.machine_file.exists() and self.dataset_file.exists()

    @property
    def is_begun(self) -> bool:
        """Whether there is a run here that could be continued."""
        return self.settings_file.exists()

    @property
    def is_finished(self) -> bool:
        """Whether the run here has come to its end."""
        if not self.summary_file.exists():
            return False
        return read_record(RunSummary, self.summary_file).status == "finished"

    def check_unused(self) -> None:
        """Refuse a folder that already holds something.

        Raises:
            OutputError: It does.
        """
        refuse_used_folder(self.path, "continue it with --resume, or choose another --out")

    def start(self, settings: RunSettings) -> None:
        """Make the folder for a new run."""
        self.check_unused()
        self.keep_settings(settings)

    def keep_settings(self, settings: RunSettings) -> None:
        """Keep what the run depends on from now on."""
        write_whole(self.settings_file, settings.model_dump_json(indent=2))

    def check_resumable(self, settings: RunSettings, processes: int = 1) -> None:
        """Refuse to continue a run with settings that would make another run of it.

        Args:
            settings: What it is to be continued with.
            processes: On how many.

        Raises:
            OutputError: There is no run here, or settings that matter have changed; all are named.
        """
        begun = self.read_settings()
        if (begun_batch := self._begun_batch()) is None:
            begun_on = read_record(Machine, self.machine_file) if self.has_origin else None
            begun_batch = global_batch(begun, begun_on.processes if begun_on else processes)
        if changes := explain_changes(begun, settings, begun_batch, processes):
            raise OutputError(
                f"{self.path}: was begun with other settings: {changes}; "
                "continue it unchanged, or choose another --out"
            )

    def _begun_batch(self) -> int | None:
        """Return over how many pictures a step was up to now; None: no step is kept."""
        for file in self.checkpoints().values():
            with suppress(*UNREADABLE):  # going back to it will tell what is wrong with it
                header = read_header(file)
                if BATCH_HEADER in header:
                    return int(header[BATCH_HEADER])
        return None

    def check_origin(self, dataset: DatasetFacts, model: ModelFacts) -> None:
        """Refuse to continue a run on other pictures, or another base, than it was begun with.

        Raises:
            OutputError: Files behind an unchanged name have changed.
        """
        if self.dataset_file.exists():  # else it was stopped before it had seen any
            begun = read_record(DatasetFacts, self.dataset_file)
            if begun.fingerprint != dataset.fingerprint:
                raise self._changed(f"the dataset {dataset.source}", self.dataset_file)
        if self.model_file.exists():
            parts = read_record(ModelFacts, self.model_file).parts
            if changed := [part for part, now in model.parts.items() if parts.get(part) != now]:
                raise self._changed(f"{', '.join(changed)} of {model.name}", self.model_file)

    def _changed(self, what: str, seen_in: Path) -> OutputError:
        return OutputError(
            f"{self.path}: {what} has changed since this run was begun (see {seen_in.name}); "
            "restore it, or start anew with another --out"
        )

    def read_settings(self) -> RunSettings:
        """Read back what the run depends on."""
        try:
            return RunSettings.model_validate_json(self.settings_file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise OutputError(
                f"{self.path}: holds no run (no {self.settings_file.name}); name the folder of one"
            ) from error
        except (OSError, ValidationError) as error:
            raise OutputError(f"{self.settings_file}: is not a run's settings") from error

    def write_origin(self, machine: Machine, dataset: DatasetFacts, model: ModelFacts) -> None:
        """Keep where the run takes place, what it sees and what it starts from."""
        write_whole(self.machine_file, machine.model_dump_json(indent=2))
        write_whole(self.dataset_file, dataset.model_dump_json(indent=2))
        write_whole(self.model_file, model.model_dump_json(indent=2))

    def write_evidence(self, facts: dict[str, Any], tensors: dict[str, Tensor]) -> Path:
        """Keep what was computed when a number stopped being one; return the file of facts."""
        write_tensors(self.diverged_file.with_suffix(".safetensors"), tensors)
        write_whole(self.diverged_file, json.dumps(facts, indent=2))
        return self.diverged_file

    def write_summary(self, summary: RunSummary) -> None:
        """Keep what the run cost and gave."""
        write_whole(self.summary_file, summary.model_dump_json(indent=2))

    def write_table_losses(self, losses: TableLosses) -> None:
        """Keep every loss on the held-out table."""
        write_whole(self.table_losses_file, losses.model_dump_json())

    def checkpoint_file(self, step: int) -> Path:
        """Name the checkpoint of a step; names sort as steps do."""
        return self.checkpoints_folder / f"step-{step:06d}.safetensors"

    def checkpoints(self) -> dict[int, Path]:
        """Find the checkpoints that are kept, by step, the newest first."""
        files = self.checkpoints_folder.glob("step-*.safetensors")
        steps = {int(m[1]): f for f in files if (m := re.fullmatch(r"step-(\d+)", f.stem))}
        return dict(sorted(steps.items(), reverse=True))

    def drop_old_checkpoints(self, keep: int) -> None:
        """Remove all but the newest checkpoints."""
        for file in list(self.checkpoints().values())[keep:]:
            remove_file(file)

    def put_aside_checkpoints(self, after: int) -> None:
        """Rename the checkpoints after a step, which cannot be used."""
        for step, file in self.checkpoints().items():
            if step > after:
                file.replace(file.with_name(f"{file.name}.damaged"))

    def remove_drafts(self) -> None:
        """Remove what a process that was killed while writing has left."""
        for folder in (self.path, self.checkpoints_folder, self.best_file.parent):
            remove_drafts(folder)

    def append(self, record: StepRecord) -> None:
        """Add one step to the log."""
        append_line(self.steps_file, json.dumps(record.to_json()))

    def records(self) -> list[StepRecord]:
        """Read the log back; a line that a crash cut short is left out.

        Raises:
            DamagedFileError: Another line is no record.
        """
        lines = enumerate(read_lines(self.steps_file), start=1)
        return [_step_record(line, f"{self.steps_file}: line {number}") for number, line in lines]

    def keep_records(self, steps_done: int) -> None:
        """Rewrite the logs with the steps up to one only, which the run goes back to.

        Raises:
            OutputError: Some of them are not in the log.
        """
        records = [record for record in self.records() if record.step <= steps_done]
        if [record.step for record in records] != list(range(1, steps_done + 1)):
            raise OutputError(
                f"{self.steps_file}: does not hold the steps 1 to {steps_done} of the checkpoint; "
                "restore the file, or start anew with another --out"
            )
        lines = "".join(json.dumps(record.to_json()) + "\n" for record in records)
        write_whole(self.steps_file, lines)
        measured = [loss for loss in self.losses() if loss.step <= steps_done]
        lines = "".join(loss.model_dump_json() + "\n" for loss in measured)
        write_whole(self.held_out_file, lines)

    def bring_logs_to_disk(self) -> None:
        """Return once no loss of power can take a line from them any more."""
        bring_to_disk(self.steps_file)
        bring_to_disk(self.held_out_file)

    def append_loss(self, loss: CheckpointLoss) -> None:
        """Add what was measured at a checkpoint to its log."""
        append_line(self.held_out_file, loss.model_dump_json())

    def losses(self) -> list[CheckpointLoss]:
        """Read back what was measured at checkpoints."""
        losses: list[CheckpointLoss] = []
        for number, line in enumerate(read_lines(self.held_out_file), start=1):
            try:
                losses.append(CheckpointLoss.model_validate_json(line))
            except ValidationError as error:
                place = f"{self.held_out_file}: line {number}"
                raise DamagedFileError(_not_a_record(place)) from error
        return losses

    def best(self) -> BestCheckpoint | None:
        """Say at which step the best adapter stood; None: none has been measured."""
        return read_record(BestCheckpoint, self.best_file) if self.best_file.exists() else None

    def write_best(self, best: BestCheckpoint) -> None:
        """Keep at which step the best adapter stood."""
        write_whole(self.best_file, best.model_dump_json())


def refuse_used_folder(path: Path, remedy: str) -> None:
    """Refuse an output folder that holds anything, before any work is done."""
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path}: is a file; choose another --out")
    # A process that was killed before it had written anything may have left a draft.
    if path.is_dir() and any(file.suffix != DRAFT_SUFFIX for file in path.iterdir()):
        raise OutputError(f"{path}: already holds something; {remedy}")
    check_writable(path)


def check_writable(path: Path) -> None:
    """Refuse a folder that could not be made or written into, before any work is done."""
    nearest = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not os.access(nearest, os.W_OK):
        raise OutputError(f"{nearest}: is not writable; make it so, or choose another --out")


def read_record(kind: type[Kind], file: Path) -> Kind:
    """Read one JSON record back."""
    try:
        return kind.model_validate_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"{file}: is missing or not what this version writes") from error


def read_if_sound(kind: type[Kind], file: Path) -> Kind | None:
    """Read a record that can be made anew: None if it is missing, damaged or of another version."""
    try:
        return read_record(kind, file)
    except OutputError:
        return None


def _step_record(line: str, place: str) -> StepRecord:
    try:
        return StepRecord(**json.loads(line))
    except (ValueError, TypeError) as error:
        raise DamagedFileError(_not_a_record(place)) from error


def _not_a_record(place: str) -> str:
    return f"{place} is not what this version writes; restore it, or start anew with another --out"
