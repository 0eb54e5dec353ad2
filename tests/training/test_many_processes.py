"""One job of several processes, started by torchrun through the real command."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch.testing import assert_close

from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.records import RunSummary

pytestmark = pytest.mark.slow
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
ALONE = (sys.executable,)


def write_recipe(file, settings):
    """Write settings as TOML; a JSON value is one of TOML, too."""
    tables = settings.model_dump(mode="json", exclude_none=True)
    plain = {key: value for key, value in tables.items() if not isinstance(value, dict)}
    lines = [f"{key} = {json.dumps(value)}" for key, value in plain.items()]
    for table in tables.keys() - plain.keys():
        lines += [f"[{table}]", *(f"{k} = {json.dumps(v)}" for k, v in tables[table].items())]
    file.write_text("\n".join(lines))


def start(launcher, recipe, out, *arguments):
    command = [*launcher, "-m", "rasengan_xl", "train", str(recipe), "--out", str(out), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def train(launcher, recipe, out, *arguments):
    process = start(launcher, recipe, out, *arguments)
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return RunFolder(out), said


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
def recipes(settings, tmp_path):
    """The same run for one process, and for each of two."""
    changes = {"dataset": {"shapes": "buckets", "bucket_multiple": 8}}
    for name, batch_size in (("one", 4), ("two", 2)):
        training = {"steps": 6, "batch_size": batch_size, "save_every": 2}
        write_recipe(tmp_path / f"{name}.toml", settings(training=training, **changes))
    return tmp_path / "one.toml", tmp_path / "two.toml"


def test_two_processes_do_what_one_does_and_only_the_first_writes(recipes, tmp_path):
    one, two = recipes
    alone, _ = train(ALONE, one, tmp_path / "alone")
    together, said = train(TORCHRUN, two, tmp_path / "together")
    assert_same_run(together, alone)
    assert len(together.records()) == 6, "each step is written once"
    assert said.count("The adapter is") == 1


def test_a_run_goes_on_with_another_number_of_processes(recipes, tmp_path):
    one, two = recipes
    alone, _ = train(ALONE, one, tmp_path / "alone")
    for name, first, second in (
        ("joined", (ALONE, one), (TORCHRUN, two)),
        ("parted", (TORCHRUN, two), (ALONE, one)),
    ):
        folder = RunFolder(tmp_path / name)
        process = start(*first, folder.path)
        deadline = time.monotonic() + 120
        while len(folder.records()) < 3 and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        train(*second, folder.path, "--resume")
        adapters = [load_file(run.adapter_file) for run in (folder, alone)]
        assert summary_of(folder).trace_hash == summary_of(alone).trace_hash
        for key, tensor in adapters[1].items():
            assert_close(adapters[0][key], tensor, rtol=1e-2, atol=1e-4)


def test_a_process_that_is_killed_ends_the_job_within_a_minute_and_is_named(settings, tmp_path):
    recipe, folder = tmp_path / "long.toml", RunFolder(tmp_path / "run")
    write_recipe(recipe, settings(training={"steps": 5000}))
    process = start(TORCHRUN, recipe, folder.path)
    deadline = time.monotonic() + 120
    while len(folder.records()) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    victim = next(pid for pid in children_of(process.pid) if environment_of(pid)["RANK"] == "1")
    os.kill(victim, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "rank      : 1" in errors
    assert f"pid: {victim}" in errors


@pytest.mark.parametrize(
    "mistake", ["dataset.source=/nowhere", 'adapter.targets=["nothing"]', "training.stepz=1"]
)
def test_a_mistake_is_told_once(recipes, tmp_path, mistake):
    _, two = recipes
    process = start(TORCHRUN, two, tmp_path / "run", "--set", mistake)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert errors.count("error: ") == 1
    assert "/rasengan_xl/" not in errors, "a traceback of ours; torchrun's own is its way"


def children_of(pid):
    return map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def environment_of(pid):
    entries = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)
