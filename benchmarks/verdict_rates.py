"""How often verdicts are false between equal arms, and how often they find a true difference.

    python benchmarks/verdict_rates.py

Five arms, some seeds and pictures, values made of effects of known size, judged as a comparison
judges them.  Between equal arms any `better` or `worse` is false, and at most 5 % of comparisons
may have one.  Power is the share of pairs in which an arm that is better by `--gain` is called so.
One JSON object for each design goes to standard output, a table to standard error.
"""

import argparse
import functools
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from rasengan_xl.evaluation.records import Verdict
from rasengan_xl.evaluation.resampling import picture_weights
from rasengan_xl.evaluation.samples import Sampled, sample_means
from rasengan_xl.evaluation.verdicts import judge_measure

ARMS = ("one", "two", "three", "four", "five")


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Standard deviations of what a value is made of, and how many there are."""

    run: float
    """Luck of one arm with one seed: of the run itself."""
    seed: float = 0.5
    """Of the seed, the same in all arms."""
    picture: float = 1.0
    """Of the picture, the same in all arms."""
    interaction: float = 0.3
    """Of an arm with a picture, the same for all seeds."""
    noise: float = 0.3
    """Of each value."""
    seeds: int = 3
    pictures: int = 48


DESIGNS = {
    "seeds alone": Design(run=0.3, interaction=0.0, noise=0.0),
    "seeds above pictures": Design(run=0.3),
    "seeds as pictures": Design(run=0.05),
    "seeds below pictures": Design(run=0.02),
    "seeds hardly": Design(run=0.001),
    "hardly anything but noise": Design(run=0.001, interaction=0.0),
    "two seeds": Design(run=0.05, seeds=2),
    "five seeds": Design(run=0.05, seeds=5),
    "sixteen pictures": Design(run=0.05, pictures=16),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What was found in many comparisons."""

    any_false: float
    """Share of comparisons between equal arms with any verdict of a difference."""
    power: float
    """Share of pairs with the better arm in which it was called better."""
    covered: float
    """Share of uncorrected 95 % intervals between equal arms that hold nought."""
    comparisons: int
    """Between equal arms; a fifth as many with the better arm."""


def measure_rates(design: Design, comparisons: int, gain: float, seed: int = 0) -> Rates:
    """Judge many comparisons of equal arms, and some in which the first is better by a gain."""
    equal = list(_compare_arms(design, comparisons, 0.0, seed))
    return Rates(
        any_false=float(np.mean([any(map(_tells_apart, verdicts)) for verdicts in equal])),
        power=_measure_power(design, comparisons // 5, gain, seed + 1),
        covered=float(np.mean([[_holds_nought(v) for v in verdicts] for verdicts in equal])),
        comparisons=comparisons,
    )


def draw_arms(
    design: Design, gain: float, random: np.random.Generator, key: str
) -> dict[str, Sampled]:
    """Make up the values of five arms; lower is better, and the first is better by the gain."""
    seeds, pictures = design.seeds, design.pictures
    shared = random.normal(0, design.seed, (seeds, 1)) + random.normal(0, design.picture, pictures)
    weights = _draw_weights(pictures, key)
    arms: dict[str, Sampled] = {}
    for index, name in enumerate(ARMS):
        values = shared + random.normal(0, design.run, (seeds, 1)) - gain * (index == 0)
        values = values + random.normal(0, design.interaction, pictures)
        values = values + random.normal(0, design.noise, (seeds, pictures))
        arms[name] = sample_means(dict(enumerate(values)), weights)
    return arms


@functools.cache
def _draw_weights(pictures: int, key: str) -> np.ndarray:
    return picture_weights(pictures, 500, key)


def _measure_power(design: Design, comparisons: int, gain: float, seed: int) -> float:
    unequal = _compare_arms(design, comparisons, gain, seed)
    found = [v.outcome == "better" for verdicts in unequal for v in verdicts if v.first == ARMS[0]]
    return float(np.mean(found))


def _compare_arms(
    design: Design, comparisons: int, gain: float, seed: int
) -> Iterator[list[Verdict]]:
    random = np.random.default_rng(seed)
    for index in range(comparisons):
        arms = draw_arms(design, gain, random, key=str(index % 20))
        yield judge_measure("value", "lower", arms)


def _tells_apart(verdict: Verdict) -> bool:
    return verdict.outcome in {"better", "worse"}


def _holds_nought(verdict: Verdict) -> bool:
    assert verdict.low is not None
    assert verdict.high is not None
    return verdict.low <= 0 <= verdict.high


def main() -> None:
    """Measure every design."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--comparisons", type=int, default=1000)
    parser.add_argument(
        "--gain", type=float, default=0.3, help="in standard deviations of pictures"
    )
    parser.add_argument("--designs", nargs="+", choices=DESIGNS, default=list(DESIGNS))
    told = parser.parse_args()
    print(f"{'design':28}{'any false':>10}{'power':>8}{'covered':>9}", file=sys.stderr)
    for name in told.designs:
        design = DESIGNS[name]
        rates = measure_rates(design, told.comparisons, told.gain)
        print(json.dumps({"design": name, **asdict(design), "gain": told.gain, **asdict(rates)}))
        row = f"{name:28}{rates.any_false:10.3f}{rates.power:8.3f}{rates.covered:9.3f}"
        print(row, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
