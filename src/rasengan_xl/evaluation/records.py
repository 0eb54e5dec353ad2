"""What is measured of arms, and what is concluded: the parts of ``comparison.json``."""

from typing import Literal

from rasengan_xl.config.base_precisions import BasePrecision
from rasengan_xl.runs.records import Record

Direction = Literal["lower", "higher", "neither"]
"""Which way is better; `neither` is shown and not judged."""
Outcome = Literal["better", "worse", "no detectable difference", "not judged"]


class Estimate(Record):
    """A value with its 95 % interval, and what it is over."""

    value: float
    low: float | None
    """End of the interval; absent where nothing was repeated or all pictures are alike."""
    high: float | None
    pictures: int
    """Pictures it is over; 0 for a measure that is not over pictures."""
    seeds: int
    """Training seeds it is over."""
    p25: float | None = None
    """Quartiles within a run, the mean over runs, where a run's value is a median of `timed`."""
    p75: float | None = None
    timed: int = 0
    """Steps, or drawn pictures, of all runs together that were timed."""


class Measure(Record):
    """One thing that was measured of the base and of every arm."""

    key: str
    """Such as `held_out_loss`; names its file of values, its row and its column."""
    label: str
    """For people: `Held-out loss`."""
    unit: str
    """Such as `s` or `GiB`; empty if it has none."""
    note: str
    """One sentence: what it is and of what."""
    direction: Direction
    group: Literal["loss", "pictures", "captions", "cost"]
    base: Estimate | None = None
    """Absent where the base has no such value."""
    arms: dict[str, Estimate]
    """By name of the arm; an arm without a value is absent."""


class Verdict(Record):
    """How one arm stands to another in one measure."""

    measure: str
    """Key of the measure."""
    first: str
    second: str
    difference: float
    """The first arm's value less the second's, paired by seed and picture."""
    low: float | None
    high: float | None
    """95 % interval of the difference, not corrected."""
    p_value: float | None
    """Of no difference, two-sided; absent where it is not judged."""
    corrected_p_value: float | None
    """By Holm's method over the pairs of this measure (doi:10.2307/4615733)."""
    outcome: Outcome
    """Of the first arm, against the second."""
    pictures: int
    seeds: int


class StratumLoss(Record):
    """Held-out loss at one of the timesteps of the table."""

    timestep: int
    base: Estimate
    """On the unquantized base."""
    arms: dict[str, Estimate]
    differences: dict[str, Estimate]
    """Each arm's loss less the base's, paired by picture."""


class QuantizationEffect(Record):
    """What storing the base in fewer bits does, with and without an adapter."""

    bases: list["OnBothBases"]
    """Without adapter, for each base precision that an arm was trained on."""
    arms: dict[str, "OnBothBases"]
    """By name of each arm that was trained on a quantized base."""


class OnBothBases(Record):
    """Held-out loss on a quantized base, and on the base people will use; paired by picture."""

    base_precision: BasePrecision
    on_quantized: Estimate
    on_full: Estimate
    difference: Estimate
    """On the unquantized base less on the quantized one."""
