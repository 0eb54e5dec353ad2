import json
from collections import Counter
from dataclasses import replace

import pytest

from rasengan_xl.planning.gpus import GPUS
from rasengan_xl.planning.roofline import (
    CALIBRATED,
    Efficiencies,
    Timing,
    basis_of,
    fit_efficiencies,
    ideal_seconds,
    predict_seconds,
    read_timings,
)
from rasengan_xl.planning.work import Operation, Work

GPU = replace(GPUS["H200"], teraflops=100, gigabytes_per_second=1000, launch_microseconds=10)
PERFECT = Efficiencies(
    matmul=1, convolution=1, attention=1, memory=1, kernel_microseconds=0, basis="a test"
)


def work(*operations, count=1):
    return Work(Counter(dict.fromkeys(operations, count)))


def test_an_operation_takes_as_long_as_what_bounds_it():
    by_arithmetic = Operation("matmul", 10**12, 10**6)
    by_traffic = Operation("matmul", 10**6, 10**9)
    assert ideal_seconds(work(by_arithmetic), GPU)["matmul"] == pytest.approx(0.01)
    assert ideal_seconds(work(by_traffic), GPU)["matmul"] == pytest.approx(0.001)


def test_many_small_kernels_are_bound_by_their_launches_unless_recorded():
    small = work(Operation("memory", 0, 1000), count=1000)
    eager = predict_seconds(small, GPU, graph=False, shares=PERFECT)
    assert (eager.seconds, eager.launch_bound) == (pytest.approx(0.01), True)
    graph = predict_seconds(small, GPU, graph=True, shares=PERFECT)
    assert (graph.seconds, graph.launch_bound) == (pytest.approx(1e-6), False)


MEASURED = (
    # On an H200: ideal milliseconds of matmul, convolution, attention, memory; kernels; measured.
    (84.33, 24.88, 23.53, 22.76, 4726, 299.8),  # LoRA, 1024 pixels, batch 8
    (42.19, 12.44, 11.76, 11.54, 4726, 152.1),
    (10.68, 3.110, 2.941, 3.098, 4704, 61.6),
    (43.10, 12.44, 4.417, 11.68, 4726, 138.5),  # 512 pixels, batch 16
    (2.881, 0.778, 0.276, 1.030, 4704, 34.1),
    (11.12, 3.110, 2.941, 3.784, 5890, 67.8),  # DoRA, 1024 pixels
    (84.77, 24.88, 23.53, 27.19, 5912, 310.5),
)


def test_the_shares_in_use_are_those_that_explain_what_was_measured():
    kinds = ("matmul", "convolution", "attention", "memory")
    timings = [
        Timing(
            ideal={kind: ms / 1000 for kind, ms in zip(kinds, row, strict=False)},
            kernels=row[4],
            seconds=row[5] / 1000,
        )
        for row in MEASURED
    ]
    found = fit_efficiencies(timings, "a test")
    for name in (*kinds, "kernel_microseconds"):
        assert getattr(found, name) == pytest.approx(getattr(CALIBRATED, name), rel=0.01)
    for timing in timings:
        told = sum(timing.ideal[kind] / getattr(CALIBRATED, kind) for kind in kinds)
        told += timing.kernels * CALIBRATED.kernel_microseconds * 1e-6
        assert told == pytest.approx(timing.seconds, rel=0.06)


def test_rows_that_failed_or_that_launches_bound_are_not_fitted(tmp_path):
    row = {"ideal_seconds": {"matmul": 1.0}, "kernels": 5, "seconds": 2.0}
    rows = [{**row, "launch_bound": False}, {**row, "launch_bound": True}, {"failed": "so"}]
    rows += [{**row, "launch_bound": False, "seconds": None}]  # several at once: memory alone
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    assert read_timings(file) == [Timing(ideal={"matmul": 1.0}, kernels=5, seconds=2.0)]


def test_it_is_said_which_gpus_keep_up_less_by_estimate():
    assert "an estimate" in basis_of(GPUS["T4"])
    assert basis_of(GPUS["H200"]) == CALIBRATED.basis
