import numpy as np
import pytest

from rasengan_xl.comparison.evidence import Evidence, Subject
from rasengan_xl.comparison.measures.costs import measure_costs
from rasengan_xl.comparison.measures.pictures import measure_pictures
from rasengan_xl.evaluation.records import Measure
from rasengan_xl.runs.records import RunSummary, SecondsPerStep


def draw_features(seed: int) -> dict[str, dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    return {
        "clip": {kind: random.normal(size=(16, 4)) for kind in ("scored", "neutral", "held_out")}
    }


def build_summary(seed: int) -> RunSummary:
    return RunSummary(
        status="finished",
        steps=9,
        trainable_parameters=1,
        total_parameters=2,
        adapter_file="a",
        adapter_bytes=1,
        peak_memory_gib=1.0 + seed,
        peak_memory_reserved_gib=None,
        memory_kind="process resident",
        seconds_per_step=SecondsPerStep(median=0.5 + seed, p25=0.4, p75=0.6, n=9),
        training_loss=0.1,
        training_loss_steps=1,
        skipped_steps=0,
        loader_idle_share=None,
        held_out_loss=None,
        seconds=4.5,
        joules_per_step=None,
        trace_hash="0",
    )


def build_subject(arm: str, seed: int | None, draw: int) -> Subject:
    return Subject(
        arm=arm,
        seed=seed,
        base_precision="full",
        pictures_per_step=4,
        facts=None,
        machine=None,
        summary=build_summary(seed) if seed is not None else None,
        table=None,
        examined=None,
        features=draw_features(draw),
    )


def build_evidence() -> Evidence:
    base = build_subject("base", None, 0)
    subjects = tuple(
        build_subject(arm, seed, seed + 10 * len(arm))
        for arm in ("lora", "qlora")
        for seed in (0, 1)
    )
    reference = {"clip": draw_features(99)["clip"]}
    return Evidence(
        base=base, subjects=subjects, probe=None, reference=None, reference_features=reference
    )


@pytest.fixture(scope="module")
def measures() -> dict[str, Measure]:
    measured = measure_pictures(build_evidence())
    return {each.measure.key: each.measure for each in measured}


def test_the_base_has_no_drift_from_itself(measures):
    assert measures["drift_clip"].base is None
    assert set(measures["drift_clip"].arms) == {"lora", "qlora"}
    assert measures["diversity_clip"].base is not None


def test_an_unbiased_distance_is_said_to_go_below_nought(measures):
    assert "unbiased, so that it may be below nought" in measures["cmmd_clip"].note


def test_rates_are_seconds_said_again_and_not_judged_a_second_time():
    costs = {each.measure.key: each.measure for each in measure_costs(build_evidence())}
    assert costs["pictures_per_second"].direction == "neither"
    assert costs["seconds_per_step"].direction == "lower"
