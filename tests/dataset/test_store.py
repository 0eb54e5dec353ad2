import pytest
import torch

from rasengan_xl.dataset import store as module
from rasengan_xl.dataset.store import ShardWriter, TensorStore
from rasengan_xl.errors import DatasetError


def entry(number, size=4):
    return {"mean": torch.full((size,), float(number)), "half": torch.ones(2, dtype=torch.bfloat16)}


def write(folder, numbers, **kwargs):
    writer = ShardWriter(folder, **kwargs)
    for number in numbers:
        writer.add(f"key{number}", entry(number))
    writer.close()
    return writer


def opened(folder):
    store = TensorStore(folder, ("mean", "half"))
    assert store.open() == []
    return store


def test_what_was_written_is_read_back(tmp_path):
    write(tmp_path, range(3))
    store = opened(tmp_path)
    assert "key2" in store
    assert "key3" not in store
    for name, tensor in store.read("key2").items():
        assert torch.equal(tensor, entry(2)[name])
        assert tensor.dtype is entry(2)[name].dtype


def test_a_shard_is_closed_when_it_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FULL_SHARD_BYTES", 50)  # an entry has 20 bytes
    writer = write(tmp_path, range(7))
    assert len(writer.written) == 3
    assert all(f"key{number}" in opened(tmp_path) for number in range(7))


def test_a_shard_is_closed_after_a_while_so_that_a_crash_costs_little(tmp_path):
    times = iter(float(t) for t in range(0, 1000, 20))
    writer = ShardWriter(tmp_path, seconds_between_shards=30.0, clock=lambda: next(times))
    for number in range(4):
        writer.add(f"key{number}", entry(number))
    assert writer.written, "nothing was closed yet"
    assert "key0" in opened(tmp_path)


def test_a_half_written_shard_is_reported_and_the_others_are_read(tmp_path):
    (good,) = write(tmp_path, [1]).written
    (bad,) = write(tmp_path, [2]).written
    bad.write_bytes(bad.read_bytes()[:-7])
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(b"not tensors")
    store = TensorStore(tmp_path, ("mean", "half"))
    assert sorted(store.open()) == sorted([bad, foreign])
    assert "key1" in store
    assert "key2" not in store
    assert good.exists()


def test_a_flipped_bit_is_found_on_reading_and_the_file_named(tmp_path):
    (file,) = write(tmp_path, [1]).written
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    store = opened(tmp_path)
    with pytest.raises(DatasetError, match=f"{file.name}.*is damaged: delete it"):
        store.read("key1")


def test_many_small_shards_are_packed_into_one_and_lose_nothing(tmp_path):
    for number in range(6):
        write(tmp_path, [number])
    store = opened(tmp_path)
    store.pack()
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    for number in range(6):
        assert torch.equal(store.read(f"key{number}")["mean"], entry(number)["mean"])


def test_few_or_full_shards_are_left_alone(tmp_path, monkeypatch):
    files = set().union(*(write(tmp_path, [number]).written for number in range(4)))
    opened(tmp_path).pack()
    assert set(tmp_path.glob("*.safetensors")) == files
    monkeypatch.setattr(module, "SMALLEST_SHARD_BYTES", 10)
    files |= set().union(*(write(tmp_path, [number]).written for number in range(4, 9)))
    opened(tmp_path).pack()
    assert set(tmp_path.glob("*.safetensors")) == files


def test_reading_goes_on_from_shards_that_have_been_packed_away_meanwhile(tmp_path):
    for number in range(6):
        write(tmp_path, [number])
    reader = opened(tmp_path)
    opened(tmp_path).pack()
    assert torch.equal(reader.read("key3")["mean"], entry(3)["mean"])


def test_a_shard_that_may_be_sound_is_not_taken_for_damage(tmp_path, monkeypatch):
    (file,) = write(tmp_path, [1]).written

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(module, "TensorFile", refuse)
    with pytest.raises(DatasetError, match=r"cannot be opened \(Permission denied\)"):
        TensorStore(tmp_path, ("mean", "half")).open()
    assert file.exists()


def test_an_empty_shard_is_damage(tmp_path):
    (tmp_path / "empty.safetensors").touch()
    assert TensorStore(tmp_path, ("mean", "half")).open() == [tmp_path / "empty.safetensors"]
