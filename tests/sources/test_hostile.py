"""Everything that may lie in a folder: used, or skipped with a reason, or one error; never more."""

import json
import os
import threading
from pathlib import Path

import pytest

from rasengan_xl.errors import DatasetError
from rasengan_xl.sources.pictures import count_reasons

from ..hostile_folder import (
    BAD_PICTURES,
    BAD_WORDS,
    IGNORED,
    OUT_OF_PLACE,
    PNG,
    USED,
    fill_hostile_folder,
    put,
)


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "hostile [folder] 忍"
    folder.mkdir()
    monkeypatch.chdir(folder)
    fill_hostile_folder(folder)
    return folder


def test_whatever_lies_in_a_folder_is_used_or_counted(open_dataset, hostile: Path):
    source = open_dataset(hostile)
    used = {picture.name: picture for picture in source.pictures}
    skipped = {picture.name: picture for picture in source.skipped}

    expected = dict.fromkeys(USED, ("a ninja",))
    expected["two\\x0alines.png"] = expected.pop("two\nlines.png")
    expected["turned \\u202egnp.png"] = expected.pop("turned \u202egnp.png")
    expected["\\xff\\xfe.png"] = ("a ninja",)
    expected["ten thousand words.png"] = (" ".join(["ninja"] * 10_000),)
    expected["byte order mark.png"] = ("a ninja",)
    expected["windows lines.png"] = ("a ninja", "a fox")
    expected["emoji.png"] = ("忍者 🦊",)
    assert {name: picture.captions for name, picture in used.items()} == expected
    assert [name for name, picture in used.items() if picture.animated] == ["animated.gif"]
    assert (used["tall.png"].width, used["tall.png"].height) == (1, 20000)
    assert used["folder.png/inside.png"].class_name == "folder.png"

    reasons = {f"{name}.png": reason for name, (_, reason) in BAD_WORDS.items()}
    reasons |= {name: reason for name, (_, reason) in BAD_PICTURES.items()}
    reasons |= dict.fromkeys(OUT_OF_PLACE, "no regular file")
    reasons["piped words.png"] = "unreadable caption"
    reasons["a disk.png"] = "unreadable file"
    reasons["header only.jpg"] = skipped["header only.jpg"].reason  # Pillow's choice
    assert {name: picture.reason for name, picture in skipped.items()} == reasons
    for name, picture in skipped.items():
        assert not picture.detail.startswith(name)
        assert picture.detail.isprintable()

    num_found = len(expected) + len(reasons)
    assert len(source.pictures) + len(source.skipped) == num_found
    assert sum(count_reasons(source.skipped).values()) == len(reasons)
    counted = {kind: list(IGNORED.values()).count(kind) for kind in IGNORED.values()}
    assert source.ignored == {**counted, "links to folders that are listed anyway": 3}


def test_the_second_scan_finds_the_same(open_dataset, hostile: Path):
    first, second = open_dataset(hostile), open_dataset(hostile)
    assert (first.pictures, first.skipped) == (second.pictures, second.skipped)


def test_every_name_and_detail_can_be_written_down(open_dataset, hostile: Path):
    source = open_dataset(hostile)
    for picture in (*source.pictures, *source.skipped):
        json.dumps(picture.name).encode()
        picture.name.encode()
    assert all(len(picture.digest) == 64 for picture in source.pictures)


def test_a_folder_and_files_without_rights_are_counted(
    open_dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    put(tmp_path, "a.png", PNG)
    put(tmp_path, "b.png", PNG)
    put(tmp_path, "c.png", PNG)
    put(tmp_path, "closed/d.png", PNG)
    scandir, read, opened = os.scandir, Path.read_bytes, Path.open

    def refuse(path: Path) -> None:
        if Path(path).name in {"closed", "b.png", "c.txt"}:  # As root, no bit forbids anything.
            raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", lambda path: refuse(path) or scandir(path))
    monkeypatch.setattr(Path, "read_bytes", lambda path: refuse(path) or read(path))
    monkeypatch.setattr(
        Path, "open", lambda path, *told, **named: refuse(path) or opened(path, *told, **named)
    )
    source = open_dataset(tmp_path)
    assert [picture.name for picture in source.pictures] == ["a.png"]
    assert {picture.name: picture.reason for picture in source.skipped} == {
        "b.png": "unreadable file",
        "c.png": "unreadable caption",
        "closed": "unreadable folder",
    }
    assert all("Permission denied" in picture.detail for picture in source.skipped)


def test_folders_that_link_to_one_another_are_each_read_once(open_dataset, tmp_path: Path):
    # Followed blindly, these links make more paths than could ever be listed.
    names = [f"f{number}" for number in range(12)]
    for name in names:
        put(tmp_path, f"{name}/{name}.png", PNG)
        for other in names:
            (tmp_path / name / other).symlink_to(tmp_path / other)
    source = open_dataset(tmp_path)
    assert [picture.name for picture in source.pictures] == sorted(f"{n}/{n}.png" for n in names)
    assert source.ignored == {"links to folders that are listed anyway": 144}


def test_a_picture_that_vanishes_after_it_was_listed_is_counted(
    open_dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    put(tmp_path, "a.png", PNG)
    put(tmp_path, "b.png", PNG)
    read = Path.read_bytes

    def read_late(path: Path) -> bytes:
        (tmp_path / "b.png").unlink(missing_ok=True)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_late)
    source = open_dataset(tmp_path)
    assert [picture.name for picture in source.pictures] == ["a.png"]
    assert source.skipped[0].detail.startswith("cannot be read (No such file")


METADATA = {
    "not JSON": ("metadata.jsonl", b'{"file_name": "a.png", "text"', "not JSON"),
    "a list": ("metadata.jsonl", b'["a.png", "x"]', "make it one object"),
    "nested for ever": ("metadata.jsonl", b"[" * 100_000, "not JSON"),
    "no such picture": ("metadata.jsonl", b'{"file_name": "z.png", "text": "x"}', "no picture z"),
    "outside": ("metadata.jsonl", b'{"file_name": "../a.png", "text": "x"}', "no picture"),
    "half a name": ("metadata.jsonl", b'{"file_name": "\\ud83e.png", "text": "x"}', "no picture"),
    "twice": ("metadata.csv", b"file_name,text\na.png,x\na.png,y\n", "a second time"),
    "another column": ("metadata.csv", b"file_name,words\na.png,x\n", "no caption column"),
    "unquoted": ("metadata.csv", b"file_name,text\na.png,a, b\n", "more fields"),
    "latin-1": ("metadata.csv", b"file_name,text\na.png,\xe9\n", "save it as UTF-8"),
    "zero bytes": ("metadata.csv", b"file_name,text\n\0\0\0", "metadata.csv"),
}


@pytest.mark.parametrize("case", METADATA)
def test_contradictory_metadata_are_one_line(open_dataset, tmp_path: Path, case: str):
    name, content, words = METADATA[case]
    put(tmp_path, "a.png", PNG)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=words) as caught:
        open_dataset(tmp_path)
    assert str(caught.value).isprintable()


def test_half_a_character_in_metadata_costs_one_picture(open_dataset, tmp_path: Path):
    put(tmp_path, "a.png", PNG, None)
    put(tmp_path, "b.png", PNG, None)
    rows = ({"file_name": "a.png", "text": "\ud83e"}, {"file_name": "b.png", "text": ["x", " y"]})
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = open_dataset(tmp_path)
    assert [picture.captions for picture in source.pictures] == [("x", "y")]
    assert [picture.reason for picture in source.skipped] == ["caption not UTF-8"]


def test_when_nothing_can_be_used_the_reasons_are_counted(open_dataset, tmp_path: Path):
    put(tmp_path, "a.png", PNG, None)
    put(tmp_path, "b.png", PNG, b"")
    put(tmp_path, "c.png", b"")
    told = r"not one of 3 pictures can be used \(2 no caption, 1 no picture\).*a\.png: no caption"
    with pytest.raises(DatasetError, match=told):
        open_dataset(tmp_path)


def test_a_scan_that_is_broken_off_leaves_no_thread(tmp_path: Path):
    from rasengan_xl.config.dataset_settings import DatasetSettings
    from rasengan_xl.sources.opening import open_source

    for number in range(200):
        put(tmp_path, f"{number:03}.png", PNG)
    work = open_source(DatasetSettings(source=str(tmp_path)))
    progress = [next(work) for _ in range(3)]
    assert [(now.stage, now.done, now.total) for now in progress] == [
        ("read the dataset", done, 200) for done in (0, 8, 16)
    ]
    work.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("scan")]
