"""What the process of a comparison asks of its workers, and what they answer."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from rasengan_xl.config.settings import PictureSettings, RunSettings
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.records import StageProgress, StepRecord


class Order(BaseModel):
    """One piece of work: frozen, and strangers to a key are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: Path
    """The comparison's folder; everything that is read or written there is named relative to it."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The files and folders under the root that the work reads, where they exist."""
        return ()

    @property
    def output(self) -> str | None:
        """The folder under the root that the work writes."""
        return None

    def after_loss(self) -> Self:
        """Return what is left to do after the worker was lost in the middle."""
        return self


class Prepare(Order):
    """Check every arm against the base model, and encode the dataset."""

    do: Literal["prepare"] = "prepare"
    arms: dict[str, RunSettings]

    @property
    def output(self) -> str:
        """Where it may leave what the runs are to share."""
        return "prepared"


class Train(Order):
    """Train one arm."""

    do: Literal["train"] = "train"
    settings: RunSettings
    run: str
    """Its folder under the root."""
    resume: bool = False
    """Continue the run that the folder holds."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Its own folder, so that it can be continued."""
        return (self.run,)

    @property
    def output(self) -> str:
        """The run's folder."""
        return self.run

    @property
    def folder(self) -> RunFolder:
        """The run's folder, where the root is."""
        return RunFolder(self.root / self.run)

    def after_loss(self) -> Self:
        """Continue the run, if there is one to continue."""
        return self.model_copy(update={"resume": self.folder.is_begun})


class Draw(Order):
    """Draw the same pictures with the base and with every finished arm."""

    do: Literal["draw"] = "draw"
    settings: RunSettings
    """Of any arm: all share the base model and where to compute."""
    pictures: PictureSettings
    adapters: dict[str, Path]
    """Adapter file of each arm."""
    folder: Path
    """Where the pictures go, one folder per arm."""


AnyOrder = Annotated[Prepare | Train | Draw, Field(discriminator="do")]
ORDERS: TypeAdapter[Prepare | Train | Draw] = TypeAdapter(AnyOrder)


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
