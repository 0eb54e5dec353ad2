"""A comparison that is stopped in the middle, through the real command."""

import json
import os
import signal
import time
from pathlib import Path

import pytest


@pytest.fixture
def recipe(settings, tmp_path):
    """A comparison whose first arm would take very long."""
    tables = settings(seed=0, training={"steps": 5000, "save_every": 5000}).model_dump(
        mode="json", exclude_none=True
    )
    plain = {key: value for key, value in tables.items() if not isinstance(value, dict)}
    lines = ['name = "long"', 'varies = ["adapter"]', "[arms.lora]", "[arms.other.adapter]"]
    lines += ["rank = 3", "[pictures]", 'prompts = ["a ninja"]', "[base]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in plain.items()]
    for table in tables.keys() - plain.keys():
        lines.append(f"[base.{table}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in tables[table].items()]
    file = tmp_path / "long.toml"
    file.write_text("\n".join(lines))
    return file


def children_of(pid):
    """List the processes that any thread of a process has started."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_comparison_and_its_worker_which_saves(nursery, recipe, tmp_path, number):
    folder = tmp_path / "out"
    process = nursery.start("compare", recipe, "--out", folder)
    steps, deadline = folder / "arms" / "lora" / "seed-0" / "steps.jsonl", time.monotonic() + 120
    while not steps.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (worker,) = children_of(process.pid)
    process.send_signal(number)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Stopped: " in said
    assert errors == ""
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
    assert list((folder / "arms" / "lora" / "seed-0" / "checkpoints").iterdir()), "the worker saved"
