import errno
import resource
from contextlib import contextmanager
from pathlib import Path

import pytest

from rasengan_xl.errors import DamagedFileError, UnwritableError
from rasengan_xl.whole_file import (
    append_line,
    drafted_folder,
    read_lines,
    remove_drafts,
    write_bytes_whole,
    write_whole,
)


@contextmanager
def files_limited_to(size):
    """Let the kernel refuse longer files, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_cannot_be_written_stays_as_it_was_and_leaves_no_draft(tmp_path):
    file = tmp_path / "kept.json"
    write_whole(file, "old")
    with (
        files_limited_to(50_000),
        pytest.raises(
            UnwritableError, match=r"kept.json: cannot be written: File too large; raise"
        ),
    ):
        write_bytes_whole(file, bytes(100_000))
    assert file.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_is_told_with_file_reason_and_remedy(tmp_path):
    (tmp_path / "log").symlink_to("/dev/full")
    with pytest.raises(
        UnwritableError, match=r"log: cannot be written: No space left on device; free space"
    ):
        append_line(tmp_path / "log", "{}")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EROFS, "make it writable"),
        (errno.EDQUOT, "free space within your quota"),
        (errno.EIO, "check the disk"),
    ],
)
def test_other_faults_have_remedies_of_their_own(tmp_path, monkeypatch, number, remedy):
    def fail(*_):
        raise OSError(number, "broken")

    monkeypatch.setattr("rasengan_xl.whole_file.os.fsync", fail)
    with pytest.raises(UnwritableError, match=remedy):
        write_whole(tmp_path / "a", "x")
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_fsync_is_written_to(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr("rasengan_xl.whole_file.os.fsync", fail)
    write_whole(tmp_path / "a", "x")
    assert (tmp_path / "a").read_text() == "x\n"


def test_a_folder_that_became_a_file_is_told(tmp_path):
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(UnwritableError, match="a.json: cannot be written: .*; (put|remove)"):
        write_whole(tmp_path / "run" / "a.json", "x")


def test_a_line_after_an_unfinished_one_is_not_glued_to_it(tmp_path):
    log = tmp_path / "log.jsonl"
    append_line(log, "one")
    with log.open("ab") as file:
        file.write(b"tw")
    assert read_lines(log) == ["one"]
    append_line(log, "three")
    assert read_lines(log) == ["one", "three"]
    log.write_bytes(b"torn")
    append_line(log, "one")
    assert log.read_bytes() == b"one\n"


def test_a_log_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "log").write_bytes(b"\xff\xfe\n")
    with pytest.raises(DamagedFileError, match="is not text"):
        read_lines(tmp_path / "log")
    assert read_lines(Path("nowhere")) == []


def test_drafts_of_killed_processes_are_removed(tmp_path):
    (tmp_path / "a.json.123.part").write_text("half")
    (tmp_path / "a.json").write_text("whole")
    remove_drafts(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_is_seen_whole_or_not_at_all(tmp_path):
    with drafted_folder(tmp_path / "deep" / "made") as draft:
        (draft / "a").write_text("x")
        assert not (tmp_path / "deep" / "made").exists()
    assert (tmp_path / "deep" / "made" / "a").read_text() == "x"
    with pytest.raises(UnicodeEncodeError), drafted_folder(tmp_path / "broken") as draft:
        (draft / "a").write_text("kept\ud800", encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]


def test_a_folder_does_not_take_the_place_of_another(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "a").write_text("old")
    with (
        pytest.raises(UnwritableError, match="kept: cannot be written: .*; remove what lies"),
        drafted_folder(tmp_path / "kept") as draft,
    ):
        (draft / "a").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept" / "a").read_text() == "old"
