import hashlib
from pathlib import Path

import pytest

from rasengan_xl import file_digests
from rasengan_xl.file_digests import file_digest, file_key


def test_a_file_is_hashed_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(file_digests, "_SETTLED_NS", 0)
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"one")
    assert file_digest(file) == hashlib.sha256(b"one").hexdigest()

    def refuse(*_: object) -> None:
        raise AssertionError("the file was read")

    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", refuse)
        assert file_digest(file) == hashlib.sha256(b"one").hexdigest()
    file.write_bytes(b"two")
    assert file_digest(file) == hashlib.sha256(b"two").hexdigest()


def test_a_file_that_changed_just_now_is_not_remembered(tmp_path: Path):
    file = tmp_path / "a"
    file.write_bytes(b"one")
    assert file_key(file) is None
    assert file_key(tmp_path / "gone") is None


def test_a_missing_file_is_an_os_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        file_digest(tmp_path / "gone")
