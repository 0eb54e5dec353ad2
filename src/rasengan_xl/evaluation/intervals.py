"""How sure a measure is: its 95 % interval, and how likely a difference is mere chance."""

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from scipy import optimize, special

from rasengan_xl.evaluation.records import Estimate
from rasengan_xl.evaluation.samples import Sampled, subtract

CONFIDENCE = 0.95
_LEAST_CHANCE = 1e-100
_MOST_ACCELERATION = 0.25
_ROUNDING = 1e-13
"""Means of equal values differ by less."""
# SciPy's functions have no types.
_t_quantile = cast("Any", special).stdtrit
_normal_below = cast("Any", special).ndtr
_find_root = cast("Any", optimize).brentq


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How much a mean over seeds and pictures would vary if all were chosen again."""

    over_seeds: float
    """Variance of the mean; so is `over_pictures`."""
    over_pictures: float
    seeds: int
    pictures: int
    """Of the smallest sample of pictures; 0 if it is not over pictures."""

    def reach(self, chance: float) -> float:
        """Return how far from the truth the mean is with this chance, on either side."""
        total = self.over_seeds + self.over_pictures
        if total == 0:
            return 0.0
        share = self.over_seeds / total
        parts = share**2 / (self.seeds - 1) + (1 - share) ** 2 / max(self.pictures - 1, 1)
        together = math.sqrt(total) * _t_beyond(1 / parts, chance)
        over_seeds = math.sqrt(self.over_seeds) * _t_beyond(float(self.seeds - 1), chance)
        return max(over_seeds, together)


def find_spread(sampled: Sampled) -> Spread | None:
    """Work out how a mean over seeds and pictures varies, both being chosen by chance.

    Say run s gives picture p the value m + a_s + b_p + e_sp, with S seeds and P pictures (two-way
    random effects, as readers and cases in Gallas 2006, doi:10.1016/j.acra.2005.11.030).  The mean
    of all varies by A/S + B/P + E/(SP), where A, B, E are the variances of a, b, e.

    - The variance over seeds of the seeds' means, divided by S, has expectation A/S + E/(SP), and
      S-1 degrees of freedom.
    - The bootstrap variance over pictures of the mean over seeds has B/P + E/(SP), once it is
      multiplied by P/(P-1), since a replicate's variance lacks that factor; and P-1 degrees.

    Their sum counts E/(SP) twice, which errs towards caution.  A t-interval takes the sum, with
    Satterthwaite's degrees of freedom (1946, doi:10.2307/3002019), (V1 + V2)^2 / (V1^2/(S-1) +
    V2^2/(P-1)).  Alone it is far too bold: of two or three seeds V1 is often too low by chance,
    and the many degrees of freedom of V2 then hide it; tests at 0.5 % reject in up to 5 %.  So the
    interval is never narrower than the one over seeds alone, t(S-1) sqrt(V1).  With both, two or
    three seeds reject as rarely as they should whatever V1/V2 is, and five seeds at most a quarter
    more often (tests/evaluation/test_intervals.py, benchmarks/verdict_rates.py).

    Returns:
        Nothing with fewer than two seeds, whose spread is then unknown.
    """
    seeds = len(sampled.points)
    if seeds < 2:
        return None
    over_pictures = 0.0
    if sampled.resampled:
        small = sampled.independent / (sampled.independent - 1)
        over_pictures = float(sampled.replicates.mean(axis=0).var()) * small
    return Spread(
        over_seeds=float(sampled.points.var(ddof=1)) / seeds,
        over_pictures=over_pictures,
        seeds=seeds,
        pictures=sampled.independent,
    )


def estimate(sampled: Sampled) -> Estimate:
    """Give the mean over seeds with its 95 % interval.

    With several seeds it is over seeds and pictures (`find_spread`).  With one it is over pictures
    alone: the bootstrap's accelerated percentiles (Efron 1987, doi:10.1080/01621459.1987.10478410,
    without the correction of bias, as no measure here has any), moved out as far as t is wider than
    the normal distribution in so small a sample (Hesterberg 2015,
    doi:10.1080/00031305.2015.1089789).  With one seed and no pictures there is none.

    A picture's value may be the same for all of them, such as a share of one: resampling then says
    nothing of a picture that would differ, and there is no interval rather than one of no width.

    Between sets that hardly differ a discrepancy's interval is up to twice too wide: its
    first-order part is then nought, and a bootstrap finds three times the variance of the second.
    """
    value = float(sampled.points.mean())
    low, high = None, None
    spread = None if _are_alike(sampled) else find_spread(sampled)
    if spread is not None:
        reach = spread.reach(1 - CONFIDENCE)
        low, high = value - reach, value + reach
    elif sampled.resampled and not _are_alike(sampled):
        low, high = _percentiles(sampled.replicates[0], sampled.independent)
    return Estimate(
        value=value,
        low=low,
        high=high,
        pictures=sampled.pictures,
        seeds=sum(seed is not None for seed in sampled.seeds),
    )


def estimate_difference(first: Sampled, second: Sampled) -> Estimate | None:
    """Give the first less the second, paired by seed and picture; nothing without common seeds."""
    difference = subtract(first, second)
    return estimate(difference) if difference is not None else None


def chance_of(difference: Sampled) -> float | None:
    """Return the two-sided p-value that a difference is nought.

    It is the chance at which the interval just reaches nought; one below 1e-100 is given as 0.
    Where all pictures differ by the same, there is no interval; it is then the chance that all of
    them have the same sign (Fisher's randomization test), since it is known of no others.

    Returns:
        Nothing with fewer than two seeds: one cannot tell a method from its luck.
    """
    spread = find_spread(difference)
    if spread is None:
        return None
    value = abs(float(difference.points.mean()))
    if value == 0:
        return 1.0
    if _are_alike(difference):
        return 2.0 ** (1 - difference.independent)
    if spread.reach(_LEAST_CHANCE) <= value:
        return 0.0

    def lacks(exponent: float) -> float:
        return math.log(max(spread.reach(10**exponent), value * 1e-9) / value)

    return 10 ** float(_find_root(lacks, math.log10(_LEAST_CHANCE), 0.0, xtol=1e-9))


def _are_alike(sampled: Sampled) -> bool:
    """Tell whether resampled pictures give the same value each time, with every seed."""
    value = sampled.points[0]
    return sampled.resampled and all(
        np.allclose(values, value, rtol=_ROUNDING, atol=_ROUNDING)
        for values in (sampled.points, sampled.replicates)
    )


def _percentiles(replicates: np.ndarray, pictures: int) -> tuple[float, float]:
    t = _t_beyond(float(pictures - 1), 1 - CONFIDENCE)
    edge = t * math.sqrt(pictures / (pictures - 1))
    off = replicates - replicates.mean()
    variance = float((off**2).mean())
    skewness = float((off**3).mean()) / variance**1.5 if variance > 0 else 0.0
    # Beyond this, of very few pictures, it would turn the ends around.
    acceleration = max(-_MOST_ACCELERATION, min(_MOST_ACCELERATION, skewness / 6))
    shares = [float(_normal_below(z / (1 - acceleration * z))) for z in (-edge, edge)]
    low, high = np.quantile(replicates, shares)
    return float(low), float(high)


def _t_beyond(degrees_of_freedom: float, chance: float) -> float:
    return -float(_t_quantile(degrees_of_freedom, chance / 2))
