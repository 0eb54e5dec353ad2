import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from rasengan_xl.comparison.scratch import Scratch


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_scratch_folder_leaves_nothing_once_it_is_removed(tmp_path):
    scratch = Scratch()
    (scratch.path / "file").touch()
    scratch.remove()
    assert list(tmp_path.glob("rasengan-scratch-*")) == []


def test_one_in_use_is_left_alone(tmp_path):
    first, second = Scratch(), Scratch()
    assert first.path != second.path
    assert first.path.is_dir()
    first.remove()
    second.remove()


def test_the_next_one_removes_what_a_killed_process_left(tmp_path):
    script = f"""
import os, signal, tempfile
tempfile.tempdir = {str(tmp_path)!r}
from rasengan_xl.comparison.scratch import Scratch
scratch = Scratch()
(scratch.path / "file").touch()
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run((sys.executable, "-c", script), check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob("rasengan-scratch-*"))) == 2, "folder and lock"
    scratch = Scratch()
    assert sorted(tmp_path.glob("rasengan-scratch-*")) == [
        scratch.path,
        scratch.path.with_suffix(".lock"),
    ]
    scratch.remove()


def test_many_that_begin_at_once_do_not_take_each_other_for_left():
    def make(_):
        scratch = Scratch()
        assert scratch.path.is_dir()
        scratch.remove()

    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(make, range(400)))) == 400
