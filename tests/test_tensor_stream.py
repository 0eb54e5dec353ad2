import hashlib
import weakref

import pytest
import torch

from rasengan_xl.errors import UnwritableError
from rasengan_xl.tensor_file import read_header, read_tensors
from rasengan_xl.tensor_stream import HASH_KEY, PlannedTensor, stream_tensors

TENSORS = {
    "half": torch.arange(15.0).half().reshape(3, 5),
    "full": torch.tensor([1.5, -2.0]),
    "brain": torch.full((3, 3), 0.1).bfloat16(),
    "count": torch.tensor([7]),
    "scalar": torch.tensor(4.6),
    "mark": torch.empty(0),
    "turned": torch.arange(6.0).reshape(2, 3).T,
}


def plan(tensors):
    return [
        PlannedTensor(name=name, shape=tuple(tensor.shape), dtype=tensor.dtype)
        for name, tensor in tensors.items()
    ]


def test_what_is_streamed_is_read_back_by_the_library(tmp_path):
    file = tmp_path / "new" / "a.safetensors"
    names = list(stream_tensors(file, plan(TENSORS), TENSORS.__getitem__, {"title": "é"}))
    assert sorted(names) == sorted(TENSORS)
    read = read_tensors(file)
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in TENSORS.items())
    assert read_header(file) == {"format": "pt", "title": "é"}


def test_a_hash_of_all_tensors_is_filled_in(tmp_path):
    file = tmp_path / "a.safetensors"
    list(stream_tensors(file, plan(TENSORS), TENSORS.__getitem__, {HASH_KEY: "", "a": "b"}))
    content = file.read_bytes()
    tensors = content[8 + int.from_bytes(content[:8], "little") :]
    assert read_header(file)[HASH_KEY] == f"0x{hashlib.sha256(tensors).hexdigest()}"


class Memory(bytearray):
    """A block of memory that tells when it is freed."""


def test_a_tensor_is_dropped_before_the_next_is_made(tmp_path):
    made = []

    def make(_):
        assert not any(memory() for memory in made)
        memory = Memory(4_000)
        made.append(weakref.ref(memory))
        return torch.frombuffer(memory, dtype=torch.float32)

    planned = [PlannedTensor(name=f"{i}", shape=(1000,), dtype=torch.float32) for i in range(4)]
    assert len(list(stream_tensors(tmp_path / "a", planned, make, {}))) == len(made) == 4


def test_nothing_is_left_when_it_is_broken_off(tmp_path):
    work = stream_tensors(tmp_path / "a", plan(TENSORS), TENSORS.__getitem__, {})
    next(work)
    assert list(tmp_path.iterdir())
    work.close()
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(tmp_path):
    planned = [PlannedTensor(name="a", shape=(10**15,), dtype=torch.float32)]
    work = stream_tensors(tmp_path / "a", planned, TENSORS.__getitem__, {})
    with pytest.raises(UnwritableError, match=r"needs 4000000\.0 GB, and .* GB are free"):
        next(work)
    assert not list(tmp_path.iterdir())
