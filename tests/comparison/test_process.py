import os
import signal
import subprocess
import sys
import threading

import pytest

from rasengan_xl.comparison import process
from rasengan_xl.comparison.orders import (
    ORDERS,
    Train,
    decode_line,
    encode_error,
    encode_progress,
)
from rasengan_xl.comparison.process import WorkerFailedError, run_worker
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.runs.records import StageProgress, StepRecord
from rasengan_xl.training.interruption import Stopped, stopping_at_once

STAGE = StageProgress(stage="encode", done=1, total=2)
STEP = StepRecord(
    step=1,
    loss=0.1,
    gradient_norm=None,
    learning_rate=1e-4,
    seconds=0.5,
    idle_seconds=0.1,
    peak_memory_gib=1.0,
)


@pytest.mark.parametrize("record", [STAGE, STEP])
def test_progress_survives_the_way_between_two_processes(record):
    assert decode_line(encode_progress(record)) == record


def test_an_error_comes_as_its_message():
    assert decode_line(encode_error("no such file: mend it")) == "no such file: mend it"


def test_an_order_survives_the_way_between_two_processes(tmp_path):
    order = Train(root=tmp_path, settings=RunSettings(seed=3), run="arms/lora")
    assert ORDERS.validate_json(order.model_dump_json()) == order


@pytest.fixture
def worker(monkeypatch, tmp_path):
    """Put a shell script in the place of the worker's Python."""

    def become(script):
        file = tmp_path / "worker"
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        monkeypatch.setattr(process.sys, "executable", str(file))
        return Train(root=tmp_path, settings=RunSettings(), run="run")

    return become


def test_what_a_worker_says_is_passed_on(worker):
    order = worker(
        f"cat >/dev/null; echo '{encode_progress(STAGE)}'; echo '{encode_progress(STEP)}'"
    )
    assert list(run_worker(order)) == [STAGE, STEP]


def test_a_worker_that_is_killed_is_an_error_that_guesses_at_memory(worker):
    with pytest.raises(WorkerFailedError, match="signal 9 .out of memory"):
        list(run_worker(worker("kill -9 $$")))


def test_a_crash_is_told_by_its_last_line_and_kept_in_the_log(worker, tmp_path):
    log = tmp_path / "logs" / "arm.log"
    with pytest.raises(WorkerFailedError, match="^ValueError: bad$") as caught:
        list(run_worker(worker("echo traceback >&2; echo 'ValueError: bad' >&2; exit 1"), log))
    assert not caught.value.by_user
    assert log.read_text() == "traceback\nValueError: bad\n"


def test_a_mistake_of_the_users_keeps_its_words(worker):
    order = worker(f"echo '{encode_error('a.toml: mend it')}'; exit 2")
    with pytest.raises(WorkerFailedError, match="a.toml: mend it") as caught:
        list(run_worker(order))
    assert caught.value.by_user


def test_a_worker_whose_progress_nobody_reads_is_stopped(worker):
    order = worker(f"cat >/dev/null; echo '{encode_progress(STAGE)}'; exec sleep 60")
    progress = run_worker(order)
    assert next(progress) == STAGE
    progress.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_worker_is_waited_for_stops_both_at_once(worker, tmp_path, number):
    note = tmp_path / "worker.pid"
    order = worker(
        f"cat >/dev/null; echo $$ >{note}; echo '{encode_progress(STAGE)}'; exec sleep 60"
    )

    def follow():
        with stopping_at_once():
            for _ in run_worker(order):
                threading.Timer(0.2, os.kill, (os.getpid(), number)).start()

    with pytest.raises(Stopped) as caught:
        follow()
    assert caught.value.status == 128 + number
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


def test_a_second_ctrl_c_ends_a_worker_that_does_not_stop(worker, tmp_path):
    note = tmp_path / "worker.pid"
    stubborn = "while :; do sleep 0.1; done"
    order = worker(
        f"trap '' INT; cat >/dev/null; echo $$ >{note}; echo '{encode_progress(STAGE)}'; {stubborn}"
    )
    progress = run_worker(order)
    next(progress)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        progress.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


def test_what_a_library_prints_is_no_answer_even_if_it_is_written_in_c():
    script = """
import os
from rasengan_xl.loading import loading
with loading():
    from rasengan_xl.comparison import worker
answers = worker._take_standard_output()
os.write(1, b"from C\\n")
print("from Python", flush=True)
answers.write("answer\\n")
answers.flush()
"""
    ended = subprocess.run(
        (sys.executable, "-c", script), capture_output=True, text=True, check=True
    )
    assert ended.stdout == "answer\n"
    assert ended.stderr.splitlines()[-2:] == ["from C", "from Python"]


def test_a_worker_ends_when_whoever_asked_has_died():
    script = """
import time
from rasengan_xl.loading import loading
with loading():
    from rasengan_xl.comparison import worker
from rasengan_xl.runs.records import StageProgress

def say_once(order):
    yield StageProgress(stage="a", done=0, total=1)
    time.sleep(60)

worker.ORDERS = type("Orders", (), {"validate_json": staticmethod(lambda text: None)})
worker.carry_out = say_once
worker.SECONDS_TO_SAVE = 0.5
worker.main()
"""
    worker = subprocess.Popen(
        (sys.executable, "-c", script), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    assert decode_line(worker.stdout.readline()).stage == "a"
    worker.stdout.close()  # as the end of a process does
    # Either it was between two records, and stopped; or it was not there in time, and was ended.
    assert worker.wait(20) in (128 + signal.SIGTERM, -signal.SIGKILL)
