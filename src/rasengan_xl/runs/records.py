"""What a run writes down, and what it tells its caller while it works."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from rasengan_xl.errors import OutputError


class Record(BaseModel):
    """A part of what is kept as JSON: frozen, and strangers to a key are refused.

    So are NaN and infinity, which JSON has no word for: a figure that is not finite would be
    written as null, and its file could not be read again.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    @model_validator(mode="wrap")
    @classmethod
    def _name_what_is_not_finite(
        cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo
    ) -> Self:
        """Refuse a figure of ours in one line; of a file, the reader's words are better."""
        try:
            return handler(data)
        except ValidationError as error:
            unfit = [e for e in error.errors(include_url=False) if e["type"] == "finite_number"]
            if not unfit or info.mode != "python":
                raise
            name = ".".join(str(part) for part in (cls.__name__, *unfit[0]["loc"]))
            raise OutputError(
                f"{name}: {unfit[0]['input']} is no finite number, and is not written; look for "
                "a loss that diverged, and lower the learning rate"
            ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageProgress:
    """How far the work before or after the steps has come."""

    stage: str
    done: int
    total: int
    note: str = ""
    """Something the user must be told, in one line; empty: nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """What one optimizer step measured."""

    step: int
    loss: float
    """Mean over the pictures of the step."""
    gradient_norm: float | None
    """Before clipping; absent when the step was skipped."""
    learning_rate: float
    seconds: float
    idle_seconds: float
    """Part of them spent waiting for pictures to be read."""
    peak_memory_gib: float
    """Highest since training began: CUDA allocated, or resident memory of the process."""
    peak_memory_reserved_gib: float | None = None
    """CUDA only: highest that the allocator has held since training began."""
    joules: float | None = None
    """Energy that the GPU took for the step, where NVML tells."""
    skipped: bool = False
    """Whether fp16 gradients overflowed, so that the step changed nothing."""

    def to_json(self) -> dict[str, float | int | bool | None]:
        """Return the record as JSON values."""
        return asdict(self)


class SecondsPerStep(Record):
    """Wall-clock seconds of an optimizer step, warm-up steps left out."""

    median: float
    p25: float
    p75: float
    n: int
    """Number of steps measured."""


class IdleShare(Record):
    """Share of the time of steps that was spent waiting for pictures, warm-up steps left out."""

    mean: float
    """All waiting over all time."""
    largest: float
    """Of a single step."""
    n: int
    """Number of steps measured."""


class PeakMemory(Record):
    """The most memory that one phase of the work took."""

    phase: Literal["encode", "train", "draw"]
    allocated_gib: float
    """CUDA: most memory allocated. CPU: most resident memory of the process."""
    reserved_gib: float | None
    """CUDA only: most memory that the allocator held."""
    kind: Literal["cuda allocated", "process resident"]


class HeldOutLoss(Record):
    """Loss on the fixed table of (held-out picture, timestep, noise)."""

    base: float
    """With the adapter disabled, on the base as the run stores it."""
    adapted: float
    n: int
    """Entries of the table: pictures x timesteps."""
    base_standard_error: float
    adapted_standard_error: float
    """Standard error over pictures."""
    difference: float
    """Adapted minus base; negative is better."""
    difference_standard_error: float
    """Of the paired difference, over pictures."""


class TableLosses(Record):
    """Every loss on the fixed table, by picture and timestep."""

    pictures: list[str]
    """Names of the held-out pictures."""
    digests: list[str]
    """Who they are, by content."""
    timesteps: list[int]
    base: list[list[float]]
    """[picture][timestep], with the adapter disabled, on the base as the run stores it."""
    adapted: list[list[float]]


class EncodingFacts(Record):
    """How much of what was asked for had to be encoded."""

    asked: int
    encoded: int
    damaged_files: int
    """Files of earlier work that could not be read, and were removed."""


class CheckpointLoss(Record):
    """Loss of the adapted model at a checkpoint, on the first rows of the held-out table."""

    step: int
    loss: float
    standard_error: float
    """Over pictures."""
    n: int
    """Entries of the table: pictures x timesteps."""


class BestCheckpoint(Record):
    """The step whose adapter had the lowest held-out loss of all checkpoints measured."""

    step: int
    loss: float
    n: int
    """Entries of the table: pictures x timesteps."""


class DatasetFacts(Record):
    """Which pictures a run saw; found = train + held_out + all skipped."""

    source: str
    """Hub id, folder, or `mini`."""
    revision: str | None
    """Commit of a hub dataset."""
    found: int
    """Everything that presented itself as a picture to train on."""
    train: int
    held_out: int
    fingerprint: str
    """SHA-256 over every picture and all its wordings, in order."""
    skipped: dict[str, int]
    """How many pictures could not be used, by reason."""
    ignored_files: dict[str, int]
    """How many files were neither pictures nor captions, by kind."""
    upscaled: int
    """Pictures smaller than the size they are trained at."""
    captions_cut: int
    """Wordings longer than either tokenizer takes."""


class ModelFacts(Record):
    """Which base model a run starts from."""

    name: str
    """As the user called it."""
    revision: str | None
    """Commit of a hub model."""
    parts: dict[str, str]
    """SHA-256 over the files of each part."""


class Machine(Record):
    """Where a run took place, as far as its figures depend on it."""

    device: str
    """`cpu` or `cuda`."""
    device_name: str
    processes: int
    """Of the training job, each with such a device."""
    device_memory_gib: float | None
    """Memory of the GPU; absent on a CPU."""
    cores: int
    memory_gib: float
    platform: str
    python: str
    packages: dict[str, str]
    commit: str | None
    """Git commit of the code, when it runs from a checkout."""


class RunSummary(Record):
    """What a finished or interrupted run cost and gave.

    One whose adapter was given, and measured as it is, took no steps: what training would have cost
    is then absent, and not nought.
    """

    status: Literal["finished", "interrupted"]
    steps: int
    trainable_parameters: int
    """Of a given adapter: how many numbers it consists of."""
    total_parameters: int
    """Of the UNet and its adapter, whatever precision they are stored in."""
    adapter_file: str
    adapter_bytes: int
    peak_memory_gib: float | None
    """CUDA: most memory allocated while training. CPU: most resident memory of the process."""
    peak_memory_reserved_gib: float | None
    """CUDA only: most memory reserved by the allocator."""
    memory_kind: Literal["cuda allocated", "process resident"] | None
    seconds_per_step: SecondsPerStep | None
    """Absent when no step came after the warm-up."""
    training_loss: float | None
    """Mean over the last tenth of the steps."""
    training_loss_steps: int
    """How many steps that mean is over."""
    skipped_steps: int
    """Steps that fp16 overflow made void."""
    loader_idle_share: IdleShare | None
    """Absent when no step came after the warm-up."""
    held_out_loss: HeldOutLoss | None
    """Absent when the run was interrupted."""
    best: BestCheckpoint | None = None
    """Absent when no checkpoint was measured."""
    seconds: float | None
    """All steps together."""
    joules_per_step: float | None
    """Mean over the steps after the warm-up; absent where NVML does not tell."""
    trace_hash: str | None
    """Hash over the pictures, timesteps and noise that were seen, in order."""
    engine: dict[str, str | bool] | None = None
    """Which of its optimisations were in use, by the words of `engine.*`, nothing left to `auto`,
    and false what could not be had; on a GPU also `triton`.  Absent of a given adapter."""


def standard_error(values: list[float]) -> float:
    """Return the standard error of a mean; 0 for fewer than two values."""
    count = len(values)
    if count < 2:
        return 0.0
    mean = sum(values) / count
    variance = sum((value - mean) ** 2 for value in values) / (count - 1)
    return math.sqrt(variance / count)
