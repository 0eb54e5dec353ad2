"""How far building mini SDXL has come."""

from collections.abc import Iterator
from dataclasses import dataclass

from rasengan_xl.mini.pretrain.fitting import FitRecord


@dataclass(frozen=True, slots=True)
class StageProgress:
    """One step of one stage."""

    stage: str
    step: int
    steps: int
    loss: float


def follow_stage(stage: str, steps: int, records: Iterator[FitRecord]) -> Iterator[StageProgress]:
    """Tell of each step which stage it belongs to, and how many there are."""
    for record in records:
        yield StageProgress(stage, record.step, steps, record.loss)
