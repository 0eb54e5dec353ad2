"""What the process of a comparison asks of its workers, and what they answer."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from rasengan_xl.comparison.layout import REFERENCE, drawn_folder
from rasengan_xl.comparison.result import Probe
from rasengan_xl.config.comparison_settings import PictureSettings, ScoringSettings
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.records import StageProgress, StepRecord


class Order(BaseModel):
    """One piece of work: frozen, and strangers to a key are refused.

    All paths but the root are relative to it, so that an order can be carried out elsewhere.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: Path
    """The comparison's folder."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The files and folders under the root that the work reads, where they exist."""
        return ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """The folders under the root that the work writes, each by itself alone."""
        return ()

    def after_loss(self) -> Self:
        """Return what is left to do after the worker was lost in the middle."""
        return self


class Prepare(Order):
    """Check every arm against the base model, and encode the dataset."""

    do: Literal["prepare"] = "prepare"
    arms: dict[str, RunSettings]
    matched: bool = False
    """Whether all arms must have equally many trainable parameters."""
    known_probe: Probe | None = None
    """What a device was found to do at most: measured again only on another, or otherwise."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The folder of the facts that were found."""
        return ("prepared",)


class Train(Order):
    """Train one arm with one seed."""

    do: Literal["train"] = "train"
    settings: RunSettings
    run: str
    """Folder of the run."""
    resume: bool = False
    """Continue what lies there."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Its own folder, so that it can be continued."""
        return (self.run,)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The run's folder."""
        return (self.run,)

    @property
    def folder(self) -> RunFolder:
        """The run's folder, where the root is."""
        return RunFolder(self.root / self.run)

    def after_loss(self) -> Self:
        """Continue the run, if there is one to continue."""
        return self.model_copy(update={"resume": self.folder.is_begun})


class Subject(BaseModel):
    """Who draws: the base, or an arm trained with a seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    run: str | None
    """Folder of the run; absent for the base."""
    on_full_base: bool
    """Whether its held-out loss on the unquantized base is to be measured: its run's is not."""
    key: str
    """Hash over all that its pictures and losses depend on."""


class Examine(Order):
    """Draw with every subject, measure what only the unquantized base tells, score the pictures."""

    do: Literal["examine"] = "examine"
    settings: RunSettings
    """Of any arm: all share the base model, the held-out pictures and where to compute."""
    pictures: PictureSettings
    scoring: ScoringSettings
    subjects: tuple[Subject, ...]
    judge_key: str
    """Hash over the encoders that are to have their say."""
    writes_reference: bool
    """Whether to write down what the pictures are set against: one order of several does."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The adapters that draw, with their settings, and what has been drawn by them."""
        runs = [subject.run for subject in self.subjects if subject.run is not None]
        return (
            *(file for run in runs for file in drawing_files(run)),
            *(drawn_folder(subject.name) for subject in self.subjects),
        )

    @property
    def outputs(self) -> tuple[str, ...]:
        """A folder for each subject, with its pictures, features and measurements."""
        drawn = tuple(drawn_folder(subject.name) for subject in self.subjects)
        return (*drawn, drawn_folder(REFERENCE)) if self.writes_reference else drawn


AnyOrder = Annotated[Prepare | Train | Examine, Field(discriminator="do")]
ORDERS: TypeAdapter[Prepare | Train | Examine] = TypeAdapter(AnyOrder)


def drawing_files(run: str) -> tuple[str, ...]:
    """Name the files that it takes to draw with a run: not its checkpoints, which are large."""
    folder = RunFolder(Path(run))
    return (folder.settings_file.as_posix(), folder.adapter_file.as_posix())


def encode_progress(record: StageProgress | StepRecord) -> str:
    """Write progress as one line."""
    kind = "step" if isinstance(record, StepRecord) else "stage"
    return json.dumps({"kind": kind, **asdict(record)})


def encode_error(message: str) -> str:
    """Write an error that the user can mend as one line."""
    return json.dumps({"kind": "error", "message": message})


def decode_line(line: str) -> StageProgress | StepRecord | str:
    """Read a worker's line back; an error comes as its message."""
    answer: dict[str, Any] = json.loads(line)
    kind = answer.pop("kind")
    if kind == "error":
        return str(answer["message"])
    return StepRecord(**answer) if kind == "step" else StageProgress(**answer)
