"""What workers write down for the process that puts a comparison together."""

from rasengan_xl.comparison.result import EncoderFacts, Probe
from rasengan_xl.runs.records import ModelFacts, PeakMemory, Record


class ArmFacts(Record):
    """What can be told of an arm before it is trained."""

    trainable_parameters: int
    """Of a given adapter: how many numbers it consists of."""
    total_parameters: int
    flops_per_step: float | None
    """Of one optimizer step of full batches, forward and backward, without recomputation; absent
    where none is taken."""
    given: str | None = None
    """What the adapter is that is given and not trained, in a few words; absent of any other."""


class PreparedFacts(Record):
    """What preparing found out."""

    arms: dict[str, ArmFacts]
    probe: Probe
    memory: PeakMemory | None
    """Of encoding; absent when everything had been encoded before."""
    dataset_fingerprint: str
    """SHA-256 over every picture and all its wordings, in order."""
    model: ModelFacts


class FailureFacts(Record):
    """Why a run did not come to its end, or not at the first attempt."""

    reason: str | None
    """Absent when it did after all."""
    attempts: int


class DrawingTime(Record):
    """Seconds for one picture, the first batch left out."""

    median: float
    p25: float
    p75: float
    n: int
    """Pictures."""
    sampler_steps: int


class DrawnNearest(Record):
    """A drawn picture and the training picture most like it."""

    number: int
    """Of the scored picture."""
    training_name: str
    similarity: float


class Examined(Record):
    """What was measured of one subject: the base, or an arm trained with a seed."""

    key: str
    """Hash over all that the pictures and losses depend on: it draws anew when that changes."""
    judge_key: str | None
    """Hash over the encoders that have had their say; None while it has only drawn."""
    failure: str | None = None
    """Why it could not be examined, in one line."""
    table: list[str]
    """Digests of the held-out pictures, in the order of the losses."""
    losses: list[list[float]] | None
    """[picture][timestep] on the unquantized base; absent where the run's own table is that."""
    seconds_per_picture: DrawingTime | None
    memory: PeakMemory | None
    """Absent where it could not be examined."""
    prompts: list[str]
    """Captions of the scored pictures, in order."""
    clip_scores: list[float] | None = None
    named_rightly: dict[str, list[bool | None]] | None = None
    """By attribute of the mini world, whether each scored picture shows what its caption names;
    None where the caption names none."""
    in_style: list[bool] | None = None
    """Whether each scored picture is in the style of the mini world's fine-tuning set."""
    nearest_by: str | None = None
    """Key of the encoder by which training pictures are near."""
    similarities: list[float] | None = None
    """Of each scored picture to the training picture nearest to it."""
    nearest: list[DrawnNearest] = []
    """The few most like a training picture."""


class ReferenceFacts(Record):
    """The pictures that drawn ones are set against."""

    key: str
    encoders: list[EncoderFacts]
    held_out: list[str]
    """Names, in the order of the features."""
    held_out_similarities: list[float] | None
    """Of each held-out picture to the training picture nearest to it: the yardstick."""
