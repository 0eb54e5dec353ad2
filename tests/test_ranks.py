import os
import subprocess
import sys

import pytest
from torch.distributed import TCPStore

from rasengan_xl.errors import DatasetError
from rasengan_xl.ranks import ALONE

PROGRAM = """
import json, os
import torch
from rasengan_xl.errors import DatasetError, RasenganError
from rasengan_xl.ranks import join_ranks

with join_ranks() as ranks:
    values = torch.tensor([float(ranks.rank + 1), 10.0])
    ranks.add_up(values)
    gathered = ranks.gather({"rank": ranks.rank, "text": "x" * (ranks.rank * 100)})
    told = ""
    try:
        with ranks.together():
            if ranks.rank == 1:
                raise DatasetError("my folder is gone")
    except RasenganError as error:
        told = f"{type(error).__name__}: {error}"
    answer = [ranks.rank, values.tolist(), [len(each["text"]) for each in gathered], told]
os.write(1, (json.dumps(answer) + "\\n").encode())
"""


def torchrun(count, *arguments, **kwargs):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={count}", *arguments]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=120, **kwargs
    )


@pytest.mark.slow
def test_processes_add_gather_and_fail_together(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    result = torchrun(2, str(program))
    assert result.returncode == 0, result.stderr
    assert sorted(result.stdout.splitlines()) == [
        '[0, [3.0, 20.0], [0, 100], "RasenganError: rank 1: my folder is gone"]',
        '[1, [3.0, 20.0], [0, 100], "SharedError: my folder is gone"]',
    ]


def test_a_lone_process_gathers_its_own_and_raises_its_own():
    assert ALONE.gather([1, 2]) == [[1, 2]]
    with pytest.raises(DatasetError, match="gone"), ALONE.together():
        raise DatasetError("gone")


@pytest.fixture
def start_apart():
    """Start a program twice by hand, as on two machines: no torchrun ends one with the other."""
    stores = []

    def start(program):
        stores.append(TCPStore("localhost", 0, is_master=True, wait_for_workers=False))
        world = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(stores[-1].port)}
        world |= {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
        world |= {"TORCHELASTIC_USE_AGENT_STORE": "True"}
        return [
            subprocess.Popen(
                [sys.executable, str(program)],
                env={**os.environ, **world, "RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]

    return start


LONG_PROGRAM = """
import os, signal, sys
from rasengan_xl import heartbeat
heartbeat.SECONDS_BETWEEN_BEATS, heartbeat.SECONDS_UNTIL_MISSED = 0.5, 4.0
from rasengan_xl.errors import LostRankError
from rasengan_xl.ranks import join_ranks

with join_ranks() as ranks:
    ranks.gather(None)
    if ranks.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        while True:
            ranks.gather(None)
    except LostRankError as error:
        print("told:", error, flush=True)
        os._exit(1)
"""


@pytest.mark.slow
def test_a_process_that_dies_is_named_by_those_on_other_machines(tmp_path, start_apart):
    program = tmp_path / "program.py"
    program.write_text(LONG_PROGRAM)
    processes = start_apart(program)
    told, _ = processes[0].communicate(timeout=60)
    assert "told: rank 1 (" in told
    assert f"process {processes[1].pid}) has died" in told
    processes[1].communicate()


HANGING_PROGRAM = """
import os, signal, sys
from rasengan_xl import heartbeat
heartbeat.SECONDS_BETWEEN_BEATS, heartbeat.SECONDS_UNTIL_DEAD = 0.5, 4.0
from rasengan_xl.ranks import join_ranks

with join_ranks() as ranks:
    ranks.gather(None)
    if ranks.rank == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    ranks.gather(None)  # waits for ever
"""


@pytest.mark.slow
def test_a_process_that_hangs_ends_the_job_and_is_named(tmp_path, start_apart):
    program = tmp_path / "program.py"
    program.write_text(HANGING_PROGRAM)
    processes = start_apart(program)
    try:
        _, said = processes[0].communicate(timeout=60)
        assert processes[0].returncode == 1
        assert f"process {processes[1].pid}) has died or hangs" in said
    finally:
        processes[1].kill()
        processes[1].communicate()
