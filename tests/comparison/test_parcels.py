import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from rasengan_xl.comparison import parcels
from rasengan_xl.comparison.parcels import pack, unpack, unpack_in_place
from rasengan_xl.errors import DamagedFileError, UnwritableError


@pytest.fixture
def packed(tmp_path):
    """A run's folder of two files, packed."""
    run = tmp_path / "there" / "arms" / "lora"
    (run / "checkpoints").mkdir(parents=True)
    (run / "steps.jsonl").write_text("new\n")
    (run / "checkpoints" / "one").write_bytes(bytes(100_000))
    return io.BytesIO(b"".join(pack(tmp_path / "there", ["arms/lora"])))


def test_a_folder_arrives_as_it_was(packed, tmp_path):
    unpack_in_place(packed, tmp_path / "here", ["arms/lora"])
    run = tmp_path / "here" / "arms" / "lora"
    assert (run / "steps.jsonl").read_text() == "new\n"
    assert (run / "checkpoints" / "one").read_bytes() == bytes(100_000)
    assert [file.name for file in (tmp_path / "here").iterdir()] == ["arms"]


def test_what_lay_there_is_replaced_and_its_neighbours_stay(packed, tmp_path):
    arms = tmp_path / "here" / "arms"
    for name in ("lora", "dora"):
        (arms / name).mkdir(parents=True)
        (arms / name / "old").touch()
    unpack_in_place(packed, tmp_path / "here", ["arms/lora"])
    assert not (arms / "lora" / "old").exists()
    assert (arms / "dora" / "old").exists()


def test_a_parcel_that_was_cut_short_changes_nothing(packed, tmp_path):
    run = tmp_path / "here" / "arms" / "lora"
    run.mkdir(parents=True)
    (run / "old").touch()
    cut = io.BytesIO(packed.getvalue()[:60_000])
    with pytest.raises(DamagedFileError, match="cannot be unpacked"):
        unpack_in_place(cut, tmp_path / "here", ["arms/lora"])
    assert [file.name for file in run.iterdir()] == ["old"]
    assert [file.name for file in (tmp_path / "here").iterdir()] == ["arms"]


@pytest.mark.parametrize("name", ["../outside", "/outside", "arms/../../outside"])
def test_nothing_comes_to_lie_outside_the_root(tmp_path, name):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as parcel:
        member = tarfile.TarInfo(name)
        member.size = 4
        parcel.addfile(member, io.BytesIO(b"evil"))
    root = tmp_path / "deep" / "root"
    if name == "/outside":  # is taken for a name under the root
        unpack(packed, root)
        assert (root / "outside").read_bytes() == b"evil"
    else:
        with pytest.raises(DamagedFileError, match="outside"):
            unpack(packed, root)
    assert not list(tmp_path.glob("outside")) + list(tmp_path.glob("deep/outside"))


def test_what_does_not_exist_is_left_out(tmp_path):
    packed = io.BytesIO(b"".join(pack(tmp_path, ["absent"])))
    unpack_in_place(packed, tmp_path / "here", ["absent"])
    assert list((tmp_path / "here").iterdir()) == []


def test_a_large_folder_comes_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(parcels, "PIECE_BYTES", 1000)
    (tmp_path / "file").write_bytes(bytes(5000))
    pieces = list(pack(tmp_path, ["file"]))
    assert len(pieces) > 5
    assert {len(piece) for piece in pieces[:-1]} == {1000}


def test_what_arrived_is_named(packed, tmp_path):
    assert unpack_in_place(packed, tmp_path / "here", ["absent", "arms/lora"]) == ("arms/lora",)


def test_where_a_folder_cannot_be_replaced_the_old_one_comes_back(packed, tmp_path, monkeypatch):
    run = tmp_path / "here" / "arms" / "lora"
    run.mkdir(parents=True)
    (run / "old").touch()
    rename = Path.rename

    def refuse(self, target):
        if self.name == "lora" and "new" in self.parts:
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(UnwritableError, match="cannot be written: Permission denied"):
        unpack_in_place(packed, tmp_path / "here", ["arms/lora"])
    assert [file.name for file in run.iterdir()] == ["old"]
    assert [file.name for file in (tmp_path / "here").iterdir()] == ["arms"]


KILLED = """
import io, os, sys
from pathlib import Path
from rasengan_xl.comparison.parcels import unpack_in_place

def rename(self, target, rename=Path.rename):
    if self.name == sys.argv[2] and "new" in self.parts:
        os._exit(9)
    return rename(self, target)

Path.rename = rename
unpack_in_place(io.BytesIO(sys.stdin.buffer.read()), Path(sys.argv[1]), ["a", "b"])
"""


def test_what_a_killed_process_left_is_put_right_by_the_next(packed, tmp_path):
    for name in "ab":
        (tmp_path / "there" / name).mkdir()
        (tmp_path / "there" / name / "new").touch()
        (tmp_path / "here" / name).mkdir(parents=True)
        (tmp_path / "here" / name / "old").touch()
    sent = b"".join(pack(tmp_path / "there", ["a", "b"]))
    command = (sys.executable, "-c", KILLED, str(tmp_path / "here"), "b")
    killed = subprocess.run(command, input=sent, capture_output=True, check=False)
    assert killed.returncode == 9, killed.stderr
    assert not (tmp_path / "here" / "b").exists()
    unpack_in_place(packed, tmp_path / "here", ["arms/lora"])
    assert (tmp_path / "here" / "a" / "new").exists()
    assert (tmp_path / "here" / "b" / "old").exists()
    assert sorted(file.name for file in (tmp_path / "here").iterdir()) == ["a", "arms", "b"]
