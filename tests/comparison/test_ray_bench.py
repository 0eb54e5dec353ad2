import io
import os
import time
from contextlib import contextmanager

import pytest

from rasengan_xl.comparison.orders import Train, decode_line, encode_error, encode_progress
from rasengan_xl.comparison.parcels import pack, unpack
from rasengan_xl.comparison.ray_bench import Bench, Outcome
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.runs.records import StageProgress

STAGE = StageProgress(stage="encode", done=1, total=2)
SAY = f"echo '{encode_progress(STAGE)}'"
FIND_ROOT = """root=$(sed 's/.*"root":"\\([^"]*\\)".*/\\1/')"""


@pytest.fixture
def worker(stand_in, tmp_path):
    """Put a shell script in the worker's place that knows its `$root`."""

    def become(script):
        stand_in("")
        (tmp_path / "worker").write_text(f"#!/bin/sh\n{FIND_ROOT}\n{script}\n")

    return become


@contextmanager
def begun(root, run="arms/lora"):
    bench = Bench()
    order = Train(root=root, settings=RunSettings(), run=run)
    try:
        for piece in pack(root, order.inputs):
            bench.receive(piece)
        bench.begin(order.model_dump_json())
        yield bench
    finally:
        bench.stop()
        bench.leave()


def hear(bench):
    """Fetch until the outcome."""
    heard, deadline = [], time.monotonic() + 20
    while not heard or heard[-1][0] != "outcome":
        assert time.monotonic() < deadline
        heard += bench.fetch()
    said = [decode_line(line) for kind, line in heard if kind == "progress"]
    pieces = b"".join(piece for kind, piece in heard if kind == "piece")
    return said, pieces, Outcome.model_validate_json(heard[-1][1])


def test_an_order_is_carried_out_elsewhere_and_its_output_comes_packed(worker, tmp_path):
    (tmp_path / "here" / "arms" / "lora").mkdir(parents=True)
    (tmp_path / "here" / "arms" / "lora" / "old").touch()
    worker(f"ls $root/arms/lora >$root/arms/lora/seen; echo $root >{tmp_path}/root; {SAY}")
    with begun(tmp_path / "here") as bench:
        said, pieces, outcome = hear(bench)
    assert said == [STAGE]
    assert outcome == Outcome()
    unpack(io.BytesIO(pieces), tmp_path / "back")
    assert (tmp_path / "back" / "arms" / "lora" / "seen").read_text().split() == ["old", "seen"]
    elsewhere = (tmp_path / "root").read_text().strip()
    assert not elsewhere.startswith(str(tmp_path))
    assert not os.path.exists(elsewhere), "nothing is left there"  # noqa: PTH110


def test_what_a_failed_worker_left_and_said_comes_too(worker, tmp_path):
    worker(
        "mkdir -p $root/arms/lora; touch $root/arms/lora/evidence\n"
        f"echo warning >&2; echo '{encode_error('a.toml: mend it')}'; exit 2"
    )
    with begun(tmp_path / "here") as bench:
        _, pieces, outcome = hear(bench)
    assert outcome == Outcome(reason="a.toml: mend it", by_user=True, said="warning\n")
    unpack(io.BytesIO(pieces), tmp_path / "back")
    assert (tmp_path / "back" / "arms" / "lora" / "evidence").exists()


def test_a_worker_that_was_killed_there_counts_as_lost(worker, tmp_path):
    worker("kill -9 $$")
    with begun(tmp_path / "here") as bench:
        _, _, outcome = hear(bench)
    assert outcome.lost
    assert "signal 9" in outcome.reason


def test_a_worker_that_is_stopped_there_has_time_to_save(worker, tmp_path):
    save = "mkdir -p $root/arms/lora; touch $root/arms/lora/saved; exit 130"
    worker(f"trap '{save}' INT; {SAY}; while :; do sleep 0.05; done")
    with begun(tmp_path / "here") as bench:
        while not bench.fetch():
            pass
        bench.stop()
        _, pieces, outcome = hear(bench)
    assert outcome.lost
    unpack(io.BytesIO(pieces), tmp_path / "back")
    assert (tmp_path / "back" / "arms" / "lora" / "saved").exists()


def test_a_fetch_waits_only_a_little(worker, tmp_path):
    worker("exec sleep 60")
    with begun(tmp_path / "here") as bench:
        begin = time.monotonic()
        assert bench.fetch() == []
        assert time.monotonic() - begin < 5
        bench.stop()
        hear(bench)


def test_a_fault_around_the_worker_is_an_outcome_too(worker, tmp_path, monkeypatch):
    def full(*parts):
        raise OSError(28, "No space left on device")

    worker("")
    monkeypatch.setattr("rasengan_xl.comparison.ray_bench.pack", full)
    with begun(tmp_path / "here") as bench:
        _, _, outcome = hear(bench)
    assert outcome.reason == "OSError: [Errno 28] No space left on device"
