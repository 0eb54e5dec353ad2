import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from rasengan_xl.engine.options import EngineOptions

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are run from the repository

from benchmarks.training_step import __main__ as script
from benchmarks.training_step.agreement import distance
from benchmarks.training_step.arms import (
    EAGER,
    GOALS,
    REPEATED,
    REPEATED_EAGER,
    SETS,
    Arm,
    mini,
    switches,
)
from benchmarks.training_step.counting import count_step
from benchmarks.training_step.goals import render_goals
from benchmarks.training_step.measuring import build, measure
from benchmarks.training_step.rows import Counts, Milliseconds, Row, append_row, read_rows
from benchmarks.training_step.table import render

MINI = {arm.name: arm for arm in mini()}
TRIED = ("ours lora mini", "diffusers lora mini")


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return [measure(MINI[name], torch.device("cpu"), steps=2) for name in TRIED]


def test_every_trainer_is_measured_alike(rows):
    for row in rows:
        assert row.basis == "measured"
        assert row.milliseconds.n == 2
        assert row.images_per_second == 2000 / row.milliseconds.median
        assert row.is_finite


def test_every_trainer_has_the_gradients_of_the_reference(rows):
    assert all(row.agreement.gradients < 1e-5 for row in rows)
    assert all(row.agreement.loss < 1e-5 for row in rows)


def test_the_arm_of_cached_keys_is_given_them(rows):
    arm = MINI["ours lora mini cached keys"]
    assert measure(arm, torch.device("cpu"), steps=1).losses[0] != rows[0].losses[0]
    assert count_step(arm, build).operations > 0


def test_what_is_off_is_told():
    true = {"a": torch.ones(3), "b": torch.ones(1)}
    assert distance({"a": torch.ones(3), "b": 1.2 * torch.ones(1)}, true) == pytest.approx(0.1)


def test_our_layers_launch_fewer_kernels_and_keep_less():
    ours, theirs = (
        count_step(MINI[name], build) for name in ("ours lora mini", "diffusers dora mini")
    )
    assert ours.operations_forward < theirs.operations_forward
    assert ours.operations_backward < theirs.operations_backward
    assert 0 < ours.saved_gib < theirs.saved_gib
    assert ours.model_teraflop == theirs.model_teraflop > 0


def test_what_is_counted_beside_stands_apart_from_what_was_measured(rows, monkeypatch, tmp_path):
    counts = Counts(operations_forward=2, operations_backward=3, saved_gib=1.0, model_teraflop=1.0)

    def do(what: str) -> Any:
        if what == "count":
            row = Row(arm=arm, basis="counted on meta tensors", counts=counts)
            return row.model_dump(exclude_none=True)
        measured = rows[0].model_copy(update={"arm": arm, "kernels": 7})
        return {"flops": 1.0, "probe": {"bf16": 2.0}, "measure": measured.model_dump()}[what]

    arm = next(arm for arm in GOALS if arm.name == EAGER)
    monkeypatch.setattr(script, "Beside", lambda what, arm: _Answer(arm, do(what)))
    monkeypatch.setattr(script.Workers, "do", lambda _, job: do(job["do"]))
    file = tmp_path / "rows.jsonl"
    session = script.Session(rows=file, steps=1, most_seconds=1, count=False, is_ahead=False)
    for row in script.run([arm], session, float("inf")):
        append_row(file, row)
    text = render_goals(read_rows(file))
    assert "views and optimizer left out | <= 5000 | 5.00 | met |" in text
    assert "the optimizer's included | <= 5000 | 7.00 | met |" in text


class _Answer:
    def __init__(self, arm: Arm, found: Any) -> None:
        self.arm, self._found = arm, found

    def answer(self, _: float) -> Any:
        return self._found


def test_only_losses_of_attention_that_repeats_are_held_against_each_other():
    by_name = {arm.name: arm for arm in GOALS}
    pair = [by_name[name] for name in (REPEATED, REPEATED_EAGER)]
    assert [arm.engine().cuda_graph for arm in pair] == [True, False]
    assert {arm.engine().attention for arm in pair} == {"efficient"}

    def reached(*losses: list[float], is_finite: bool = True) -> str:
        rows = [
            Row(arm=arm, basis="measured", losses=each, is_finite=is_finite)
            for arm, each in zip(pair, losses, strict=True)
        ]
        return next(line for line in render_goals(rows).splitlines() if "to the bit" in line)

    assert reached([0.1, 0.2], [0.1, 0.2]).endswith("| met |")
    assert reached([0.1, 0.2], [0.1, 0.2000001]).endswith("| missed |")
    assert reached([0.1], [0.1], is_finite=False).endswith("| missed |")


def test_larger_batches_have_rows_of_their_own_and_end_with_the_time(rows, monkeypatch, tmp_path):
    measured = rows[0].model_dump(exclude_none=True)

    def do(_: object, job: dict[str, Any]) -> Any:
        return {} if job["do"] == "probe" else measured | {"arm": job["arm"]}

    monkeypatch.setattr(script.Workers, "do", do)
    monkeypatch.setattr(script, "Beside", lambda _, arm: _Answer(arm, 1.0))
    monkeypatch.setattr(script, "LARGEST_TRIED", 8)
    file = tmp_path / "rows.jsonl"
    session = script.Session(rows=file, steps=1, most_seconds=1, count=False, is_ahead=False)
    append_row(file, rows[0])
    script.find_largest(rows[0].arm, session, float("inf"))
    assert [row.arm.batch_size for row in read_rows(file)] == [2, 4, 8]
    script.find_largest(rows[0].arm, session, 0.0)
    assert read_rows(file)[1].failure == "not begun: the time was up"


def test_rows_are_kept_and_the_later_one_counts(rows, tmp_path):
    file = tmp_path / "rows.jsonl"
    failed = Row(arm=rows[0].arm, basis="failed", failure="out of memory")
    for row in (failed, *rows):
        append_row(file, row)
    assert read_rows(file) == rows
    table = render(read_rows(file))
    assert all(f"| {name} |" in table for name in TRIED)


def test_an_arm_that_fails_is_a_row(monkeypatch, tmp_path):
    monkeypatch.setattr(script.Workers, "do", lambda *_: "OutOfMemoryError: CUDA out of memory")
    session = script.Session(
        rows=tmp_path / "rows.jsonl", steps=1, most_seconds=1, count=True, is_ahead=False
    )
    (row,) = script.run([MINI[TRIED[0]]], session, float("inf"))
    assert row.failure == "OutOfMemoryError: CUDA out of memory"
    assert row.failure in render([row])


def test_goals_are_judged_by_the_rows_they_name():
    def timed(name: str, milliseconds: float) -> Row:
        arm = next(arm for arm in GOALS if arm.name == name)
        time = Milliseconds(median=milliseconds, p25=milliseconds, p75=milliseconds, n=20)
        return Row(arm=arm, basis="measured", milliseconds=time)

    text = render_goals([timed("ours lora 1024 b8", 250), timed("ours dora 1024 b8", 300)])
    assert "| LoRA, 1024 px, batch 8, images/s | >= 25 | 32.00 | met |" in text
    assert "| DoRA step / LoRA step, 1024 px, batch 8 | <= 1.08 | 1.20 | missed |" in text
    assert "| LoRA, 512 px, batch 16, images/s | >= 100 | not measured | |" in text


def test_names_tell_arms_apart_and_every_switch_is_turned_off():
    for arms in SETS.values():
        names = [arm.name for arm in arms()]
        assert len(names) == len(set(names))
    turned = {name for arm in switches() for name in _departures(arm)}
    assert turned >= {f.name for f in fields(EngineOptions) if f.default is True}


def _departures(arm: Arm) -> set[str]:
    plain = EngineOptions().facts()
    return {name for name, value in arm.engine().facts().items() if value != plain[name]}
