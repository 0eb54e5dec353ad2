"""What `verification.json` holds: whether an adapter is what it should be, check by check."""

from typing import Literal

from pydantic import Field

from rasengan_xl.runs.folder import RunFolder, read_record
from rasengan_xl.runs.records import Record

Status = Literal["passed", "failed", "noted", "not checked"]
"""`noted`: a user should know, but it need not be a fault."""


class Check(Record):
    """One thing that was looked at."""

    name: str
    status: Status
    detail: str
    """What was found, in one line."""
    figures: dict[str, float | int | str] = Field(default_factory=dict[str, float | int | str])


class LayerChange(Record):
    """How far an adapter moves the weight of one layer."""

    layer: str
    """Such as `unet.mid_block.attentions.0.proj_in`."""
    kind: str
    """Such as `LoRA`."""
    rank: int | None
    """Absent if the change has no factors."""
    scale: float
    """What the product of the factors is multiplied by: alpha / rank for LoRA."""
    change_norm: float | None = None
    """Frobenius norm of the weight change; absent where it takes a base that is not there."""
    weight_norm: float | None = None
    """Frobenius norm of the base's weight."""

    @property
    def relative(self) -> float | None:
        """Norm of the change as a share of the norm of the weight."""
        if self.change_norm is None or not self.weight_norm:
            return None
        return self.change_norm / self.weight_norm


class LayerKind(Record):
    """Layers of one part that are changed in the same way."""

    part: str
    """`unet`, `text_encoder` or `text_encoder_2`."""
    kind: str
    layers: int
    ranks: list[int]
    """All that occur; none if the changes have no factors."""
    alphas: list[float]


class Verification(Record):
    """What was found of one adapter."""

    passed: bool
    """Whether nothing failed."""
    adapter: str
    """Its file."""
    sha256: str
    """Of the file."""
    form: str
    """How its weights are named; empty if they could not be understood."""
    base: str
    """What it was checked on; empty if no base model was at hand."""
    kinds: list[LayerKind]
    parameters: int
    """How many numbers the adapter consists of, alphas not counted."""
    facts: dict[str, str]
    """What the file's header tells, as far as it is worth knowing."""
    notes: list[str]
    checks: list[Check]
    layers: list[LayerChange]

    @property
    def failures(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if check.status == "failed"]


def read_verification(folder: RunFolder) -> Verification | None:
    """Read what was found of a run's adapter; None: it was not verified.

    Raises:
        OutputError: The file is damaged.
    """
    file = folder.verification_file
    return read_record(Verification, file) if file.exists() else None
