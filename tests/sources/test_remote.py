from pathlib import Path

import fsspec
import pytest

from rasengan_xl.errors import DatasetError
from rasengan_xl.sources.remote import is_address, mirror


@pytest.fixture
def bucket(encode):
    system = fsspec.filesystem("memory")
    for name, colour in {"a": "red", "deep/b": "blue"}.items():
        system.pipe(f"/bucket/ninja-style/{name}.png", encode(colour))
        system.pipe(f"/bucket/ninja-style/{name}.txt", name.encode())
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


@pytest.fixture
def fetched(bucket, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were fetched, in any order."""
    fetched, get_file = [], type(bucket).get_file

    def note(self, path: str, *told: object, **options: object) -> None:
        fetched.append(path.rpartition("/")[2])
        get_file(self, path, *told, **options)

    monkeypatch.setattr(type(bucket), "get_file", note)
    return fetched


def test_only_a_protocol_makes_an_address():
    for address in ("s3://bucket/a", "hf://datasets/a/b", "memory://a", "zip://a::s3://b/c.zip"):
        assert is_address(address)
    for other in ("a/b", "C:\\a", "/a://b", "./s3://a"):
        assert not is_address(other)


def test_a_mirrored_folder_is_read_like_a_local_one(open_dataset, bucket):
    source = open_dataset("memory://bucket/ninja-style")
    assert source.name == "memory://bucket/ninja-style"
    assert {picture.name: picture.captions for picture in source.pictures} == {
        "a.png": ("a",),
        "deep/b.png": ("deep/b",),
    }
    by_name = open_dataset("memory://bucket/ninja-style", "folder_name")
    assert by_name.pictures[0].captions == ("ninja style",)


def test_only_what_changed_is_fetched_again(open_dataset, encode, bucket, fetched: list[str]):
    address = "memory://bucket/ninja-style/"
    first = open_dataset(address)
    assert sorted(fetched) == ["a.png", "a.txt", "b.png", "b.txt"]
    fetched.clear()
    assert open_dataset(address).pictures == first.pictures
    assert fetched == []
    bucket.pipe("/bucket/ninja-style/a.png", encode("green"))
    bucket.rm("/bucket/ninja-style/deep/b.png")
    source = open_dataset(address)
    assert fetched == ["a.png"]
    assert [picture.name for picture in source.pictures] == ["a.png"]
    assert source.pictures[0].load().getpixel((0, 0)) == (0, 128, 0)


def test_a_single_file_is_mirrored(bucket):
    *_, end = drain(mirror("memory://bucket/ninja-style/a.txt"))
    assert (end.name, end.read_text()) == ("a.txt", "a")


def drain(work) -> list:
    seen = []
    while True:
        try:
            seen.append(next(work))
        except StopIteration as end:
            return [*seen, end.value]


def test_a_broken_off_fetch_goes_on_where_it_was(
    bucket, fetched: list[str], monkeypatch: pytest.MonkeyPatch
):
    note = type(bucket).get_file

    def fail_once(self, path: str, *told: object, **options: object) -> None:
        if path.endswith("b.png"):
            raise ConnectionResetError("reset\nby peer")
        note(self, path, *told, **options)

    with monkeypatch.context() as patch:
        patch.setattr(type(bucket), "get_file", fail_once)
        with pytest.raises(DatasetError, match=r"b\.png: cannot be fetched \(reset by peer\)"):
            drain(mirror("memory://bucket"))
    had = set(fetched)
    fetched.clear()
    *progress, folder = drain(mirror("memory://bucket"))
    assert not had & set(fetched)
    assert {*had, *fetched} == {"a.png", "a.txt", "b.png", "b.txt"}
    assert (progress[-1].done, progress[-1].total) == (4, 4)
    assert len([file for file in folder.rglob("*") if file.is_file()]) == 4


def test_a_local_address_is_read_in_place(tmp_path: Path):
    assert drain(mirror(f"file://{tmp_path}")) == [tmp_path]


def test_what_cannot_be_fetched_is_one_line(open_dataset, bucket, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(DatasetError, match=r"memory://gone: no such file or folder, or an empty"):
        open_dataset("memory://gone")
    with pytest.raises(DatasetError, match=r"odd://b: cannot be fetched \(Protocol not known: odd"):
        open_dataset("odd://b")

    def need_package(address: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("rasengan_xl.sources.remote._connect_to", need_package)
    with pytest.raises(DatasetError, match=r"s3:// needs another package: pip install s3fs$"):
        open_dataset("s3://bucket/a")


def test_a_name_that_leads_out_of_the_mirror_is_refused(bucket):
    bucket.store["/bucket/../../out.png"] = bucket.store["/bucket/ninja-style/a.png"]
    with pytest.raises(DatasetError, match=r"no file can be called \.\./\.\./out\.png"):
        drain(mirror("memory://bucket"))
