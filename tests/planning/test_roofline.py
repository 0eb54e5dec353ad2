import json
from collections import Counter
from dataclasses import replace

import pytest

from rasengan_xl.planning.gpus import GPUS
from rasengan_xl.planning.roofline import (
    Efficiencies,
    Timing,
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


def test_shares_are_found_again_from_the_times_that_they_lead_to():
    true = Efficiencies(
        matmul=0.6, convolution=0.4, attention=0.5, memory=0.7, kernel_microseconds=2, basis=""
    )
    timings = []
    for index in range(8):
        mixed = Work(
            Counter(
                {
                    Operation("matmul", 10**11, 0): 5 + index,
                    Operation("convolution", 10**11, 0): 1 + index * index,
                    Operation("attention", 10**11, 0): 7 - index,
                    Operation("memory", 0, 10**8): 3 + index % 3,
                    Operation("memory", 0, 10**3): 2000 * (1 + index % 2),
                }
            )
        )
        seconds = predict_seconds(mixed, GPU, graph=True, shares=true).seconds
        ideal = ideal_seconds(mixed, GPU)
        timings.append(Timing(ideal=ideal, kernels=mixed.kernels, seconds=seconds))
    found = fit_efficiencies(timings, "a test")
    for name in ("matmul", "convolution", "attention", "memory", "kernel_microseconds"):
        assert getattr(found, name) == pytest.approx(getattr(true, name), rel=0.02)


def test_rows_without_a_time_or_that_launches_bound_are_not_fitted(tmp_path):
    row = {"ideal_seconds": {"matmul": 1.0}, "kernels": 5, "seconds": 2.0}
    rows = [{**row, "launch_bound": False}, {**row, "launch_bound": True}, {"failed": "so"}]
    rows.append({**row, "seconds": None, "launch_bound": False})
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    assert read_timings(file) == [Timing(ideal={"matmul": 1.0}, kernels=5, seconds=2.0)]
