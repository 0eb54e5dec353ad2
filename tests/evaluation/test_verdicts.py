import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rasengan_xl.evaluation.resampling import picture_weights
from rasengan_xl.evaluation.samples import sample_means, sample_values
from rasengan_xl.evaluation.verdicts import correct_by_holm, judge_measure

SIMULATION = Path(__file__).parents[2] / "benchmarks" / "verdict_rates.py"


def values(*of_seeds):
    return sample_values(dict(enumerate(of_seeds)))


def test_holms_correction_is_that_of_the_paper():
    assert correct_by_holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert correct_by_holm([0.02, 0.02, 0.9, 0.5]) == pytest.approx([0.08, 0.08, 1, 1])
    assert correct_by_holm([0.3]) == [0.3]
    assert correct_by_holm([]) == []


@pytest.mark.parametrize(("direction", "outcome"), [("lower", "better"), ("higher", "worse")])
def test_an_arm_that_differs_is_better_or_worse_by_the_measures_direction(direction, outcome):
    arms = {"a": values(1, 1.1, 0.9), "b": values(5, 5.1, 4.9), "c": values(5.2, 4.8, 5.0)}
    first, second, third = judge_measure("loss", direction, arms)
    assert (first.first, first.second, third.first, third.second) == ("a", "b", "b", "c")
    assert first.difference == pytest.approx(-4)
    assert (first.outcome, second.outcome) == (outcome, outcome)
    assert third.outcome == "no detectable difference"
    assert (first.measure, first.seeds, first.pictures) == ("loss", 3, 0)


def test_p_values_are_corrected_over_the_pairs_of_the_measure():
    arms = {"a": values(1, 1.3, 0.9), "b": values(1.5, 1.9, 1.2), "c": values(2, 2.6, 1.3)}
    verdicts = judge_measure("loss", "lower", arms)
    corrected = correct_by_holm([v.p_value for v in verdicts])
    assert [v.corrected_p_value for v in verdicts] == corrected
    assert any(v.p_value < 0.05 < v.corrected_p_value for v in verdicts)
    told = [v for v in verdicts if v.outcome != "no detectable difference"]
    assert told == [v for v in verdicts if v.corrected_p_value <= 0.05]


def test_one_common_seed_is_not_judged_but_shown_with_its_interval():
    pictures = np.random.default_rng(0).normal(size=(2, 30))
    weights = picture_weights(30, 200, "a")
    arms = {
        "a": sample_means({1: pictures[0]}, weights),
        "b": sample_means({1: pictures[1] + 9}, weights),
    }
    (verdict,) = judge_measure("loss", "lower", arms)
    assert verdict.outcome == "not judged"
    assert verdict.p_value is verdict.corrected_p_value is None
    assert verdict.low < verdict.difference < verdict.high < 0
    assert (verdict.seeds, verdict.pictures) == (1, 30)


def test_arms_without_a_common_seed_are_not_judged():
    arms = {"a": sample_values({1: 1.0, 2: 1.0}), "b": sample_values({3: 4.0, 4: 4.0})}
    (verdict,) = judge_measure("loss", "lower", arms)
    assert verdict.outcome == "not judged"
    assert (verdict.difference, verdict.low, verdict.seeds) == (-3, None, 0)


def test_a_pair_that_is_not_judged_does_not_count_in_the_correction():
    arms = {"a": values(1, 1.1, 0.9), "b": values(5, 5.1, 4.9), "c": sample_values({0: 3.0})}
    verdicts = judge_measure("loss", "lower", arms)
    assert [v.outcome for v in verdicts] == ["better", "not judged", "not judged"]
    assert verdicts[0].corrected_p_value == verdicts[0].p_value


def test_a_measure_of_which_neither_way_is_better_is_not_judged():
    arms = {"a": values(1, 1.1, 0.9), "b": values(5, 5.1, 4.9)}
    (verdict,) = judge_measure("drift", "neither", arms)
    assert verdict.outcome == "not judged"
    assert verdict.p_value is None
    assert verdict.low < -4 < verdict.high


@pytest.mark.slow
def test_equal_arms_are_told_apart_in_five_percent_of_comparisons_at_most():
    designs = {"seeds above pictures": 0.0, "seeds as pictures": 0.3, "seeds hardly": 0.6}
    command = [sys.executable, SIMULATION, "--gain", "0.5", "--designs", *designs]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = {row["design"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert list(found) == list(designs)
    for name, least_power in designs.items():
        assert found[name]["comparisons"] == 1000
        assert found[name]["any_false"] <= 0.05
        assert found[name]["covered"] >= 0.945
        assert found[name]["power"] >= least_power
