"""What a comparison found: the contents of ``comparison.json``, the page's only source."""

from pathlib import Path
from typing import Any, Literal

from rasengan_xl.config.comparison_settings import ArmName
from rasengan_xl.evaluation.records import Measure, QuantizationEffect, StratumLoss, Verdict
from rasengan_xl.runs.folder import write_whole
from rasengan_xl.runs.records import DatasetFacts, Machine, PeakMemory, Record, RunSummary

RESULT_FILE = "comparison.json"


class CheckpointPoint(Record):
    """Held-out loss on the way, over the first rows of the table."""

    step: int
    seconds: float
    """Training time until then: steps alone."""
    loss: float
    standard_error: float
    n: int
    """Entries of the table: pictures x timesteps."""


class RunResult(Record):
    """One arm trained with one seed."""

    seed: int
    status: Literal["finished", "failed", "missing"]
    """`missing`: not run yet."""
    reason: str | None = None
    """Why it failed, in one line."""
    attempts: int = 1
    """2 when its worker was lost once and it was continued."""
    run: str
    """Its folder, with its `steps.jsonl`; relative to the comparison's folder."""
    summary: RunSummary | None = None
    """What it cost and gave; absent when it failed."""
    checkpoints: list[CheckpointPoint] = []
    seconds: float | None = None
    """All of its steps together."""
    joules_per_step: float | None = None
    """Where NVML tells the GPU's energy."""


class ArmResult(Record):
    """One arm, with all its runs."""

    name: ArmName
    settings: dict[str, Any]
    """Everything the arm depended on but the seed, resolved."""
    differs: dict[str, Any]
    """This arm's value of every setting that is not the same in all arms."""
    trainable_parameters: int | None = None
    total_parameters: int | None = None
    """Of the UNet and its adapter, whatever precision they are stored in."""
    adapter_bytes: int | None = None
    flops_per_step: float | None = None
    """Of one optimizer step, forward and backward, without recomputation."""
    given: str | None = None
    """What the adapter is that is given and not trained, in a few words; absent of any other."""
    runs: list[RunResult]
    """One for each seed."""

    @property
    def finished(self) -> list[RunResult]:
        """The runs that came to their end."""
        return [run for run in self.runs if run.status == "finished"]

    @property
    def failed(self) -> list[RunResult]:
        """The runs that did not."""
        return [run for run in self.runs if run.status == "failed"]


class PictureRow(Record):
    """One prompt, drawn from one first noise by the base and by every finished run."""

    prompt: str
    seed: int
    """Of the first noise."""
    base: str
    """Path of the base model's picture, relative to the comparison's folder."""
    arms: dict[str, dict[str, str]]
    """By name of the arm and training seed: path of the picture."""


class NearestPicture(Record):
    """A drawn picture beside the training picture most like it."""

    arm: str
    """Or `base`."""
    seed: int | None
    prompt: str
    drawn: str
    """Path, relative to the comparison's folder; so is `training`."""
    training: str
    training_name: str
    similarity: float
    """Cosine of their features."""


class EncoderFacts(Record):
    """An encoder of pictures that was to be used."""

    key: str
    """`clip`, `dino` or `reader`."""
    name: str
    """Hub id or folder."""
    identity: str | None
    """Hash of its files; absent if it could not be had."""
    absent: str | None = None
    """Why its columns are left out, in one line."""


class SweepTrial(Record):
    """One learning rate tried for one arm."""

    learning_rate: float
    status: Literal["finished", "failed"]
    reason: str | None = None
    tuning_loss: float | None = None
    """On the tuning pictures, which no reported figure is over."""
    standard_error: float | None = None
    n: int | None = None
    chosen: bool = False


class EqualTime(Record):
    """Held-out losses after equal training time: that of the fastest arm's whole run.

    They are on the base that a run trains on, quantized or not, and cut the learning-rate schedule
    of slower arms off before its end, which counts against them.
    """

    seconds: float
    arms: dict[str, "LossAtTime"]
    note: str = ""
    """What these losses do not bear, in a sentence or two."""


class LossAtTime(Record):
    """Where an arm stood when the time was up; means over its seeds."""

    steps: float
    loss: float
    """Interpolated between the two checkpoints around it."""
    low: float | None
    """95 % interval over seeds; absent with one."""
    high: float | None
    seeds: int
    n: int
    """Entries of the table for each seed: pictures x timesteps."""


class Probe(Record):
    """The most that the device did in a few seconds of matrix products."""

    teraflops_per_second: float
    precision: str
    seconds: float
    side: int
    """Of the square matrices."""
    device_name: str = ""
    """What was measured; empty where an earlier version did not tell."""


class Comparison(Record):
    """The whole result."""

    name: str
    status: Literal["running", "finished"]
    design: str | None
    """`one-factor` or `matched`, where the comparison was held to it."""
    varies: list[str]
    seeds: list[int]
    base_model: str
    command: str
    """What repeats it."""
    dataset: DatasetFacts | None
    """Absent when no arm came far enough to say."""
    machine: Machine | None
    jobs: int
    """Runs that went on side by side."""
    picture_settings: dict[str, Any]
    """Sampler steps, guidance and size of the pictures."""
    scoring_settings: dict[str, Any]
    arms: list[ArmResult]
    pictures: list[PictureRow]
    primary: str | None = None
    """Key of the measure by which arms are told apart first."""
    measures: list[Measure] = []
    verdicts: list[Verdict] = []
    strata: list[StratumLoss] = []
    quantization: QuantizationEffect | None = None
    """Absent when no arm was trained on a quantized base."""
    equal_time: EqualTime | None = None
    sweep: dict[str, list[SweepTrial]] = {}
    """By name of the arm; empty when learning rates were given."""
    nearest: list[NearestPicture] = []
    """The drawn pictures most like a training picture."""
    encoders: list[EncoderFacts] = []
    probe: Probe | None = None
    memory: list[PeakMemory] = []
    """Of the phases that all arms share: encoding."""
    notes: list[str] = []
    """What could not be done, one line each."""

    def write(self, file: Path) -> None:
        """Write the result as JSON, whole or not at all."""
        write_whole(file, self.model_dump_json(indent=2))
