"""What a comparison found: the contents of ``comparison.json``, the page's only source."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from rasengan_xl.runs.provenance import Machine


class Record(BaseModel):
    """A part of the result: frozen, and strangers to a key are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class DatasetFacts(Record):
    """Which pictures the arms saw."""

    source: str
    """Hub id, folder, or `mini`."""
    revision: str | None
    """Commit of a hub dataset."""
    train: int
    held_out: int
    fingerprint: str
    """SHA-256 over every picture and caption, in order."""
    skipped: dict[str, int]
    """How many pictures were left out, by reason."""


class SecondsPerStep(Record):
    """Wall-clock seconds of an optimizer step, warm-up steps left out."""

    median: float
    p25: float
    p75: float
    n: int
    """Number of steps measured."""


class HeldOutLoss(Record):
    """Loss on the fixed table of (held-out picture, timestep, noise)."""

    base: float
    """With the adapter disabled, on the base as the arm stores it (NF4 for QLoRA)."""
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


class ArmResult(Record):
    """What one arm cost and gave; measurements are absent when the arm failed."""

    name: str
    status: Literal["finished", "failed"]
    reason: str | None = None
    """Why it failed, in one line."""
    seed: int
    settings: dict[str, Any]
    """Everything the arm depended on, resolved."""
    differs: dict[str, Any]
    """This arm's value of every setting that is not the same in all arms."""
    run: str
    """The arm's folder, with its `steps.jsonl`; relative to the comparison's folder."""
    trainable_parameters: int | None = None
    total_parameters: int | None = None
    """Of the UNet and its adapter, whatever precision they are stored in."""
    adapter_file: str | None = None
    adapter_bytes: int | None = None
    peak_memory_gib: float | None = None
    """CUDA: most memory allocated while training. CPU: most resident memory of the process."""
    peak_memory_reserved_gib: float | None = None
    """CUDA only: most memory reserved by the allocator."""
    memory_kind: Literal["cuda allocated", "process resident"] | None = None
    seconds_per_step: SecondsPerStep | None = None
    training_loss: float | None = None
    """Mean over the last tenth of the steps."""
    training_loss_steps: int | None = None
    """How many steps that mean is over."""
    held_out_loss: HeldOutLoss | None = None
    trace_hash: str | None = None
    """Hash over the pictures, timesteps and noise that were seen, in order."""


class PictureRow(Record):
    """One prompt and seed, drawn by the base and by every arm from the same noise."""

    prompt: str
    seed: int
    base: str
    """Path of the base model's picture, relative to the comparison's folder."""
    arms: dict[str, str]
    """Path of each finished arm's picture."""


class Comparison(Record):
    """The whole result."""

    name: str
    base_model: str
    dataset: DatasetFacts
    machine: Machine
    picture_settings: dict[str, Any]
    """Sampler steps, guidance and size of the pictures."""
    arms: list[ArmResult]
    pictures: list[PictureRow]

    def write(self, file: Path) -> None:
        """Write the result as JSON, whole or not at all."""
        draft = file.with_suffix(".part")
        draft.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        draft.replace(file)
