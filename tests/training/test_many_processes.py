"""One job of several processes, as torchrun starts them."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch.distributed import TCPStore
from torch.testing import assert_close

from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.records import RunSummary, StepRecord
from rasengan_xl.training.run import run_training

from ..exhaust import exhaust

pytestmark = pytest.mark.slow
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def write_recipe(file, settings):
    """Write settings as TOML; a JSON value is one of TOML, too."""
    tables = settings.model_dump(mode="json", exclude_none=True)
    plain = {key: value for key, value in tables.items() if not isinstance(value, dict)}
    lines = [f"{key} = {json.dumps(value)}" for key, value in plain.items()]
    for table in tables.keys() - plain.keys():
        lines += [f"[{table}]", *(f"{k} = {json.dumps(v)}" for k, v in tables[table].items())]
    file.write_text("\n".join(lines))


def torchrun(recipe, out, *arguments):
    """Start the real thing."""
    command = [*TORCHRUN, "-m", "rasengan_xl", "train", str(recipe), "--out", str(out), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def start(nursery):
    """Start the two processes of a job with what torchrun tells them, and without its seconds."""

    def start(recipe, out, *arguments):
        store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
        stores.append(store)
        world = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(store.port), "WORLD_SIZE": "2"}
        world |= {"LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_USE_AGENT_STORE": "True"}
        command = ("train", recipe, "--out", out, *arguments)
        ranks = [{**world, "RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
        return [nursery.start(*command, **rank) for rank in ranks]

    stores = []
    return start


def finish(processes):
    """Wait for the good end of all; return what they said."""
    said, errors = zip(*(process.communicate(timeout=120) for process in processes), strict=True)
    assert [process.returncode for process in processes] == [0, 0], errors
    return "".join(said)


def wait_for_steps(folder, number, processes):
    deadline = time.monotonic() + 120
    while len(folder.records()) < number:
        assert all(process.poll() is None for process in processes)
        assert time.monotonic() < deadline
        time.sleep(0.02)


def summary_of(folder):
    return RunSummary.model_validate_json(folder.summary_file.read_text())


def assert_same_run(one, other):
    assert [r.step for r in one.records()] == [r.step for r in other.records()]
    assert summary_of(one).trace_hash == summary_of(other).trace_hash
    for a, b in zip(one.records(), other.records(), strict=True):
        assert a.loss == pytest.approx(b.loss, rel=1e-4)
        assert a.gradient_norm == pytest.approx(b.gradient_norm, rel=1e-3)
    assert summary_of(one).held_out_loss.n == summary_of(other).held_out_loss.n
    adapted = [summary_of(folder).held_out_loss.adapted for folder in (one, other)]
    assert adapted[0] == pytest.approx(adapted[1], rel=1e-3)


@pytest.fixture
def for_one(settings):
    """A run for one process."""
    return build(settings, 4)


@pytest.fixture
def for_two(settings, tmp_path):
    """The recipe of the same run for each of two."""
    recipe = tmp_path / "two.toml"
    write_recipe(recipe, build(settings, 2))
    return recipe


def build(settings, batch_size):
    changes = {"dataset": {"shapes": "buckets", "bucket_multiple": 8}}
    return settings(training={"steps": 16, "batch_size": batch_size, "save_every": 8}, **changes)


@pytest.fixture
def alone(for_one, tmp_path):
    """The run by one process, which is this one."""
    folder = RunFolder(tmp_path / "alone")
    exhaust(run_training(for_one, folder))
    return folder


def test_two_processes_do_what_one_does_and_only_the_first_writes(alone, for_two, start, tmp_path):
    together = RunFolder(tmp_path / "together")
    said = finish(start(for_two, together.path))
    assert_same_run(together, alone)
    assert len(together.records()) == 16, "each step is written once"
    assert said.count("The adapter is") == 1


def assert_same_end(folder, alone):
    adapters = [load_file(run.adapter_file) for run in (folder, alone)]
    assert summary_of(folder).trace_hash == summary_of(alone).trace_hash
    for key, tensor in adapters[1].items():
        assert_close(adapters[0][key], tensor, rtol=1e-2, atol=1e-4)


def test_a_run_of_one_process_goes_on_with_two(alone, for_one, for_two, start, tmp_path):
    folder = RunFolder(tmp_path / "joined")
    with closing(run_training(for_one, folder)) as work:
        next(record for record in work if isinstance(record, StepRecord) and record.step == 3)
    finish(start(for_two, folder.path, "--resume"))
    assert_same_end(folder, alone)


def test_a_run_of_two_processes_goes_on_with_one(alone, for_one, for_two, start, tmp_path):
    folder = RunFolder(tmp_path / "parted")
    processes = start(for_two, folder.path)
    wait_for_steps(folder, 1, processes)
    processes[1].send_signal(signal.SIGTERM)
    for process in processes:
        process.communicate(timeout=60)
    assert {process.returncode for process in processes} == {128 + signal.SIGTERM}
    assert 1 <= len(folder.records()) < 16
    exhaust(run_training(for_one, folder, resume=True))
    assert_same_end(folder, alone)


def test_a_process_that_is_killed_ends_the_job_within_a_minute_and_is_named(settings, tmp_path):
    recipe, folder = tmp_path / "long.toml", RunFolder(tmp_path / "run")
    write_recipe(recipe, settings(training={"steps": 5000}))
    process = torchrun(recipe, folder.path)
    wait_for_steps(folder, 3, [process])
    victim = next(pid for pid in children_of(process.pid) if environment_of(pid)["RANK"] == "1")
    os.kill(victim, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "rank      : 1" in errors
    assert f"pid: {victim}" in errors


MISTAKES = ["dataset.source=/nowhere", 'adapter.targets=["nothing"]', "training.stepz=1"]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_once(for_two, start, tmp_path, mistake):
    processes = start(for_two, tmp_path / "run", "--set", mistake)
    errors = "".join(process.communicate(timeout=120)[1] for process in processes)
    assert [process.returncode for process in processes] == [2, 2]
    assert errors.count("error: ") == 1
    assert "Traceback" not in errors


def test_torchrun_adds_a_traceback_of_its_own_alone(for_two, tmp_path):
    process = torchrun(for_two, tmp_path / "run", "--set", "training.stepz=1")
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert errors.count("error: ") == 1
    assert "/rasengan_xl/" not in errors, "a traceback of ours"


def children_of(pid):
    return map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def environment_of(pid):
    entries = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)
