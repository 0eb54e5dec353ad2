import os
import socket
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


LONG_PROGRAM = """
import os, signal, sys
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
def test_a_process_that_dies_is_named_by_those_on_other_machines(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(LONG_PROGRAM)
    # Started by hand, as on two machines: no torchrun that would end the others at once.
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    store = TCPStore("localhost", port, is_master=True, wait_for_workers=False)
    world = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(store.port), "WORLD_SIZE": "2"}
    world |= {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(program)],
            env={**os.environ, **world, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told, _ = processes[0].communicate(timeout=60)
    assert "told: rank 1 (" in told
    assert f"process {processes[1].pid}) has died" in told
    processes[1].communicate()
