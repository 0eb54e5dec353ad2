"""What is known of an arm once it was measured or counted: a line of JSON, a row of the table."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from benchmarks.training_step.arms import Arm
from rasengan_xl.runs.records import Record


class Milliseconds(Record):
    """How long a step takes."""

    median: float
    p25: float
    p75: float
    n: int


class Counts(Record):
    """What a step takes by count, on tensors without values, the optimizer left out.

    Operations are those of PyTorch's dispatcher but for views, and our own kernels: one may
    launch several kernels on a GPU, so that a profiler sees more.
    """

    operations_forward: int
    operations_backward: int
    saved_gib: float
    """Kept from the forward pass for the backward pass, weights left out."""
    model_teraflop: float
    """The model's arithmetic in 10^12 operations; recomputation is not counted."""

    @property
    def operations(self) -> int:
        """Both passes'."""
        return self.operations_forward + self.operations_backward


class Agreement(Record):
    """How far an arm is from PEFT in float32 over the same weights, on the same inputs."""

    loss: float
    """Relative difference."""
    gradients: float
    """Norm of the difference of all gradients, relative to theirs."""


class Row(Record):
    """One arm."""

    arm: Arm
    basis: Literal["measured", "counted on meta tensors", "failed"]
    device: str = ""
    torch_version: str = ""
    milliseconds: Milliseconds | None = None
    peak_allocated_gib: float | None = None
    peak_reserved_gib: float | None = None
    kernels: int | None = None
    """Launched on the GPU in a whole step, the optimizer's included."""
    counts: Counts | None = None
    agreement: Agreement | None = None
    losses: list[float] = Field(default_factory=list[float])
    """Of all steps, the warm-up's too; they end where one is no number."""
    is_finite: bool | None = None
    """Whether every loss was a number."""
    skipped_steps: int | None = None
    """That fp16 overflow made void, warm-up included; None: the trainer does not tell."""
    matmul_teraflops_per_second: float | None = None
    """What the GPU reached on square matrices in the arm's precision, in the same run."""
    model_teraflop: float | None = None
    notes: list[str] = Field(default_factory=list[str])
    """What its user would be told while it trains."""
    failure: str | None = None

    @property
    def images_per_second(self) -> float | None:
        """Return how many pictures are learnt from in a second."""
        if self.milliseconds is None:
            return None
        return 1000 * self.arm.batch_size / self.milliseconds.median

    @property
    def teraflops_per_second(self) -> float | None:
        """Return the rate of the model's arithmetic."""
        if self.milliseconds is None or self.model_teraflop is None:
            return None
        return 1000 * self.model_teraflop / self.milliseconds.median

    @property
    def share_of_peak(self) -> float | None:
        """Return that rate as a share of the matrix product's."""
        rate, most = self.teraflops_per_second, self.matmul_teraflops_per_second
        return rate / most if rate and most else None


def append_row(file: Path, row: Row) -> None:
    """Write a row at once, so that a killed run keeps what it has."""
    with file.open("a", encoding="utf-8") as lines:
        lines.write(row.model_dump_json(exclude_none=True) + "\n")


def read_rows(file: Path) -> list[Row]:
    """Read rows; of an arm that was taken twice, the later one."""
    lines = file.read_text(encoding="utf-8").splitlines()
    rows = (Row.model_validate_json(line) for line in lines if line)
    return list(
        {(row.arm.name, row.basis == "counted on meta tensors"): row for row in rows}.values()
    )
