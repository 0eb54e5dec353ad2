import os
import signal
import sys
import threading
import time
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from rasengan_xl.comparison import ray_place as ray_place_module
from rasengan_xl.comparison.orders import Prepare, Train
from rasengan_xl.comparison.ray_place import RayPlace
from rasengan_xl.comparison.side_by_side import (
    Job,
    JobEnded,
    JobProgress,
    JobRetried,
    carry_out_jobs,
)
from rasengan_xl.errors import DeviceError
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.records import StepRecord
from rasengan_xl.training.run import run_training

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def ray_place(own_cache):
    ray = pytest.importorskip("ray")
    handler = signal.getsignal(signal.SIGTERM)
    place = RayPlace()
    assert ray.is_initialized()
    assert signal.getsignal(signal.SIGTERM) is handler
    place._slots = 2  # whatever this machine has
    with closing(place):
        yield place
    assert not ray.is_initialized()


def descendants(pid):
    """List the processes below one, with their command lines."""
    found = {}
    for children in Path("/proc").glob(f"{pid}/task/*/children"):
        with suppress(OSError):  # it has just ended
            for child in map(int, children.read_text().split()):
                command = Path(f"/proc/{child}/cmdline").read_bytes()
                found[child] = command.replace(b"\0", b" ").decode()
                found.update(descendants(child))
    return found


def training_processes():
    commands = descendants(os.getpid())
    return [pid for pid, command in commands.items() if "-m rasengan_xl.comparison" in command]


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def wait_until(fact):
    deadline = time.monotonic() + 40
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def job(root, name, settings, resume=False):
    order = Train(root=root, settings=settings, run=f"arms/{name}", resume=resume)
    return Job(name=name, order=order, log=root / "logs" / f"{name}.log")


def end(job, attempts=1, **facts):
    return JobEnded(job=job, attempts=attempts, seconds=0.0, **facts)


def timeless(event):
    """Leave out how long a job took."""
    return replace(event, seconds=0.0) if isinstance(event, JobEnded) else event


def ends(events):
    return {event.job: timeless(event) for event in events if isinstance(event, JobEnded)}


def steps(events, name="lora"):
    told = [
        event.record for event in events if isinstance(event, JobProgress) and event.job == name
    ]
    return [record for record in told if isinstance(record, StepRecord)]


@pytest.mark.slow
def test_arms_train_on_a_cluster_and_their_folders_come_back_whole(ray_place, settings, tmp_path):
    wild = settings(training={"learning_rate": 1e30, "max_gradient_norm": 1e30})
    jobs = [
        job(tmp_path, "lora", settings()),
        job(tmp_path, "wild", wild),
        Job(name="prepare", order=Prepare(root=tmp_path, arms={"lora": settings()})),
    ]
    events = list(carry_out_jobs(jobs, ray_place))
    ended = ends(events)
    assert ended["lora"] == end("lora")
    run = RunFolder(tmp_path / "arms" / "lora")
    assert run.is_finished
    assert run.adapter_file.stat().st_size > 1000
    assert list(run.checkpoints()) == [4]
    assert steps(events) == run.records()
    assert ended["prepare"].reason is None
    assert ended["wild"].by_user
    assert ended["wild"].attempts == 1
    assert RunFolder(tmp_path / "arms" / "wild").diverged_file.exists(), "evidence comes back too"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["arms", "logs", "prepared"]
    assert [file.name for file in (tmp_path / "logs").iterdir()] == ["wild.log"]
    wait_until(lambda: not training_processes())


@pytest.mark.slow
def test_a_run_is_continued_from_what_lies_here(ray_place, settings, tmp_path):
    work = run_training(settings(), RunFolder(tmp_path / "arms" / "lora"))
    with closing(work):
        next(record for record in work if isinstance(record, StepRecord) and record.step == 2)
    again = job(tmp_path, "lora", settings(), resume=True)
    events = list(carry_out_jobs([again], ray_place))
    assert ends(events)["lora"].reason is None
    assert [record.step for record in steps(events)] == [3, 4]
    assert RunFolder(tmp_path / "arms" / "lora").is_finished


def follow_killing(jobs, place, kills):
    """Kill the process of Ray's that trains, so many times, each at a first step; keep events."""
    events, killed = [], 0
    for event in carry_out_jobs(jobs, place):
        events.append(event)
        first = steps([event], jobs[0].name)
        if first and first[0].step == 1 and killed < kills:
            (worker,) = training_processes()
            killed += 1
            os.kill(parent(worker), signal.SIGKILL)
            wait_until(lambda worker=worker: worker not in training_processes())
    return events


@pytest.mark.slow
def test_a_run_whose_worker_is_killed_is_done_again(ray_place, settings, tmp_path, capfd):
    jobs = [job(tmp_path, "lora", settings(training={"steps": 60}))]
    events = follow_killing(jobs, ray_place, kills=1)
    (retried,) = [event for event in events if isinstance(event, JobRetried)]
    assert "lost" in retried.reason
    assert not retried.resumed, "what it had written is gone with it"
    assert ends(events)["lora"] == end("lora", 2)
    run = RunFolder(tmp_path / "arms" / "lora")
    assert run.is_finished
    assert len(run.records()) == 60
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_run_whose_worker_is_killed_twice_is_reported_as_lost(ray_place, settings, tmp_path):
    jobs = [
        job(tmp_path, "lora", settings(training={"steps": 60})),
        job(tmp_path, "other", settings()),
    ]
    ray_place._slots = 1  # so that the process that trains is the first job's
    try:
        ended = ends(follow_killing(jobs, ray_place, kills=2))
    finally:
        ray_place._slots = 2
    assert ended["lora"].attempts == 2
    assert ended["lora"].lost
    assert "lost" in ended["lora"].reason
    assert not (tmp_path / "arms" / "lora").exists()
    assert ended["other"] == end("other")
    assert RunFolder(tmp_path / "arms" / "other").is_finished


@pytest.mark.slow
def test_closing_saves_the_run_and_brings_it_back(ray_place, settings, tmp_path):
    jobs = [job(tmp_path, "lora", settings(training={"steps": 5000, "save_every": 5000}))]
    with closing(carry_out_jobs(jobs, ray_place)) as events:
        for event in events:
            if steps([event]):
                break
    run = RunFolder(tmp_path / "arms" / "lora")
    assert run.is_begun
    assert list(run.checkpoints())
    wait_until(lambda: not training_processes())
    assert not any(thread.name.startswith("slot") for thread in threading.enumerate())


class RayHere:
    """Stands in for Ray: what would be far is in this process, and answers are what they are."""

    class exceptions:  # noqa: N801 - so Ray calls them
        class RayError(Exception):
            pass

        class RayTaskError(RayError):
            pass

    def is_initialized(self):
        return True

    def cluster_resources(self):
        return {"CPU": 1.0}

    def remote(self, **_):
        return lambda kind: SimpleNamespace(remote=lambda: Far(kind()))

    def wait(self, answers, timeout):
        return answers, []

    def get(self, answer):
        return answer

    def kill(self, _):
        pass


class Far:
    def __init__(self, near):
        self._near = near

    def __getattr__(self, name):
        return SimpleNamespace(remote=getattr(self._near, name))


@pytest.fixture
def ray_here(monkeypatch):
    monkeypatch.setattr(ray_place_module, "_import_ray", RayHere)
    return RayPlace()


def test_a_worker_that_ends_well_but_left_nothing_has_failed(ray_here, stand_in, train):
    stand_in("exit 0")
    (ended,) = ends(carry_out_jobs([Job(name="a", order=train("arms/a"))], ray_here)).values()
    assert ended.reason == (
        "the worker on the cluster ended well, but nothing that it wrote came back"
    )
    assert not ended.by_user


def test_what_a_worker_wrote_comes_back(ray_here, stand_in, train, tmp_path):
    take_order = 'sed -n \'s/.*"root":"\\([^"]*\\)".*/\\1/p\''
    stand_in("")
    (tmp_path / "worker").write_text(
        f"#!/bin/sh\nroot=$({take_order})\nmkdir -p $root/arms/a; echo x >$root/arms/a/file\n"
    )
    (ended,) = ends(carry_out_jobs([Job(name="a", order=train("arms/a"))], ray_here)).values()
    assert ended.reason is None
    assert (tmp_path / "arms" / "a" / "file").read_text() == "x\n"


def test_without_ray_the_user_is_told_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DeviceError, match=r"pip install 'rasengan-xl\[cluster\]'"):
        RayPlace()
