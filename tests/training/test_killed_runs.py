"""Runs that are killed again and again end as if nothing had happened."""

import json
import subprocess
import sys

import pytest

from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.records import RunSummary

KILLS, STEPS, SEED = 12, 30, 20240607

# Loads the libraries once, then forks: every attempt is a process of its own, killed by the kernel.
NURSERY = """
import json, os, random, signal, sys, time, traceback
from pathlib import Path
import torch
from rasengan_xl.loading import loading
with loading():
    from rasengan_xl.config.settings import RunSettings
    from rasengan_xl.runs.folder import RunFolder
    from rasengan_xl.training.run import run_training

settings = RunSettings.model_validate_json(sys.argv[1])
place, kills, chance = Path(sys.argv[2]), int(sys.argv[3]), random.Random(int(sys.argv[4]))


def attempt(folder, longest):
    child = os.fork()
    if child == 0:
        try:
            torch.set_num_threads(1)
            for _ in run_training(settings, folder, resume=folder.is_begun):
                pass
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    deadline = time.monotonic() + longest
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert status == 0, status
            return True
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


assert attempt(RunFolder(place / "whole"), 600)
began = time.monotonic()  # what all runs share is encoded and measured now
assert attempt(RunFolder(place / "again"), 600)
usual = time.monotonic() - began
runs, killed = 0, []
while True:
    folder = RunFolder(place / f"broken-{runs}")
    if len(killed) == kills:
        assert attempt(folder, 600)
        break
    delay = chance.uniform(0, usual)
    if attempt(folder, delay):
        runs += 1
    else:
        killed.append({"run": runs, "delay": delay, "steps": len(folder.records()),
                       "checkpoints": list(folder.checkpoints())})
print(json.dumps({"usual": usual, "runs": runs + 1, "killed": killed}))
"""


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_as_the_undisturbed_one(settings, tmp_path):
    chosen = settings(
        adapter={"decompose": True, "dropout": 0.1},
        training={"steps": STEPS, "save_every": 5, "batch_size": 1},
    )
    command = [sys.executable, "-W", "ignore", "-c", NURSERY, chosen.model_dump_json()]
    command += [str(tmp_path), str(KILLS), str(SEED)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert answer.returncode == 0, answer.stderr
    report = json.loads(answer.stdout.splitlines()[-1])
    print(f"seed {SEED}: {json.dumps(report)}")  # noqa: T201 - shown when the test fails

    assert len(report["killed"]) == KILLS
    in_training = [kill for kill in report["killed"] if 0 < kill["steps"] < STEPS]
    assert len(in_training) >= KILLS // 4, "too few were killed while training"
    whole = RunFolder(tmp_path / "whole")
    summary = RunSummary.model_validate_json(whole.summary_file.read_text())
    for number in range(report["runs"]):
        broken = RunFolder(tmp_path / f"broken-{number}")
        assert [r.loss for r in broken.records()] == [r.loss for r in whole.records()]
        assert broken.losses() == whole.losses()
        assert broken.best() == whole.best()
        for name in ("adapter_file", "best_adapter_file"):
            assert getattr(broken, name).read_bytes() == getattr(whole, name).read_bytes(), name
        told = RunSummary.model_validate_json(broken.summary_file.read_text())
        assert told.status == "finished"
        assert told.trace_hash == summary.trace_hash
        assert told.held_out_loss == summary.held_out_loss
        assert not list(broken.path.rglob("*.part"))
