import json
import subprocess
import sys

import pytest
import torch
from filelock import FileLock

from rasengan_xl.dataset.shared_work import Part, fill_store
from rasengan_xl.dataset.store import ShardWriter, TensorStore
from rasengan_xl.errors import DatasetError
from rasengan_xl.ranks import ALONE, Ranks
from rasengan_xl.runs.records import StageProgress

from ..exhaust import exhaust

# Fills a store, one entry at a time, and says what it encoded itself.
PROGRAM = """
import json, sys, time
from pathlib import Path
import torch
from rasengan_xl.dataset.shared_work import fill_store
from rasengan_xl.dataset.store import ShardWriter, TensorStore
from rasengan_xl.ranks import join_ranks
from rasengan_xl.runs.records import StageProgress

store = TensorStore(Path(sys.argv[1]), ("value",))
own = []

def encode(missing, part):
    writer = ShardWriter(store.folder, seconds_between_shards=0.0)
    for key in missing[part.index :: part.count]:
        time.sleep(0.02)
        writer.add(key, {"value": torch.ones(1)})
        own.append(key)
        yield StageProgress(stage="encode", done=len(own), total=len(missing))
    writer.close()

with join_ranks() as ranks:
    work = fill_store(store, [f"key{i}" for i in range(40)], encode, ranks)
    stages = set()
    while True:
        try:
            stages.add(next(work).stage)
        except StopIteration as end:
            facts = end.value
            break
complete = all(f"key{i}" in store for i in range(40))
Path(sys.argv[2], f"{ranks.rank}-{len(own)}.json").write_text(
    json.dumps([own, facts.encoded, complete, sorted(stages)])
)
"""


def encode_into(store, begun):
    def encode(missing, part):
        begun.append(missing)
        writer = ShardWriter(store.folder)
        for key in missing:
            writer.add(key, {"value": torch.ones(1)})
        writer.close()
        yield StageProgress(stage="encode", done=1, total=1)

    return encode


def fill(folder, keys, begun):
    store = TensorStore(folder, ("value",))
    return store, exhaust(fill_store(store, keys, encode_into(store, begun), ALONE))


def test_only_what_is_missing_is_encoded(tmp_path):
    begun = []
    fill(tmp_path, ["a", "b", "a"], begun)
    store, facts = fill(tmp_path, ["a", "b", "c"], begun)
    assert begun == [["a", "b"], ["c"]]
    assert (facts.asked, facts.encoded, facts.damaged_files) == (3, 1, 0)
    assert all(key in store for key in "abc")
    fill(tmp_path, ["a", "b", "c"], begun)
    assert len(begun) == 2


def test_what_was_half_written_is_removed_counted_and_encoded_anew(tmp_path):
    begun = []
    fill(tmp_path, ["a"], begun)
    fill(tmp_path, ["b"], begun)
    (tmp_path / "shard.safetensors.7.part").write_bytes(b"left by a process that was killed")
    damaged = sorted(tmp_path.glob("*.safetensors"))[0]
    damaged.write_bytes(damaged.read_bytes()[:50])
    _, facts = fill(tmp_path, ["a", "b"], begun)
    assert (facts.encoded, facts.damaged_files) == (1, 1)
    assert not list(tmp_path.glob("*.part"))


def test_an_error_keeps_what_was_encoded_and_lets_the_lock_go(tmp_path):
    def fail(missing, part):
        raise DatasetError("the second picture is damaged")
        yield

    store = TensorStore(tmp_path, ("value",))
    with pytest.raises(DatasetError, match="second picture"):
        exhaust(fill_store(store, ["a"], fail, ALONE))
    with FileLock(tmp_path / ".lock").acquire(timeout=0):
        pass


def test_a_second_job_waits_says_so_and_then_encodes_nothing(tmp_path):
    store, answers = tmp_path / "store", tmp_path / "answers"
    answers.mkdir()
    command = [sys.executable, "-c", PROGRAM, str(store), str(answers)]
    jobs = [subprocess.Popen(command) for _ in range(2)]
    assert [job.wait(timeout=120) for job in jobs] == [0, 0]
    encoded = sorted(json.loads(file.read_text())[1] for file in answers.iterdir())
    complete = [json.loads(file.read_text())[2] for file in answers.iterdir()]
    assert encoded == [0, 40]
    assert complete == [True, True]


@pytest.mark.slow
def test_the_processes_of_a_job_share_the_work(tmp_path):
    store, answers = tmp_path / "store", tmp_path / "answers"
    answers.mkdir()
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, "--nproc-per-node=2", str(program), str(store), str(answers)]
    assert subprocess.run(command, check=False, timeout=120).returncode == 0
    told = [json.loads(file.read_text()) for file in sorted(answers.iterdir())]
    assert [len(own) for own, *_ in told] == [20, 20]
    assert not set(told[0][0]) & set(told[1][0])
    assert all(complete for _, _, complete, _ in told)


def test_a_process_leads_where_it_is_the_first_of_those_that_share_the_folder():
    assert Part(0, 4).leads
    assert not Part(1, 4).leads


class OnTwoMachines(Ranks):
    """The first of four processes, whose cache folder only its own machine sees."""

    def gather(self, value):
        return [value, value, False, False] if value is True else [value]


def test_machines_that_share_no_folder_each_do_all_the_work(tmp_path):
    parts = []

    def encode(missing, part):
        parts.append(part)
        yield StageProgress(stage="encode", done=1, total=1)

    ranks = OnTwoMachines(rank=0, count=4, node_rank=0, node_count=2)
    exhaust(fill_store(TensorStore(tmp_path, ("value",)), ["a"], encode, ranks))
    assert parts == [Part(0, 2)]
    assert not list(tmp_path.glob(".[0-9a-f]*")), "the mark is left behind"
