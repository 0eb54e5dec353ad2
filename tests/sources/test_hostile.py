"""Everything that may lie in a folder: used, or skipped with a reason, or one error; never more."""

import json
import os
import socket
import struct
import threading
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rasengan_xl.errors import DatasetError
from rasengan_xl.sources.pictures import count_reasons


def encoded(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    file = BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def noise(mode: str = "RGB", size: tuple[int, int] = (48, 40)) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(values).convert(mode)


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


JPEG = encoded(noise(), "JPEG")
PNG = encoded(noise())
ANIMATION = encoded(noise("P"), "GIF", save_all=True, append_images=[noise("P").rotate(90)])

USED = {
    "plain.png": PNG,
    "really a jpeg.png": JPEG,
    "UPPER.PNG": PNG,
    "Case.png": PNG,
    "case.png": JPEG,
    "cmyk.jpg": encoded(noise("CMYK"), "JPEG"),
    "sixteen bits.png": encoded(Image.fromarray(np.full((9, 9), 40000, np.uint16))),
    "palette.png": encoded(noise("P")),
    "transparent.png": encoded(noise("RGBA")),
    "grey.png": encoded(noise("L")),
    "one bit.png": encoded(noise("1")),
    "animated.gif": ANIMATION,
    "tall.png": encoded(Image.new("RGB", (1, 20000))),
    "one pixel.png": encoded(Image.new("RGB", (1, 1))),
    "忍者 🦊 👨\u200d👩.png": PNG,
    "שלום مرحبا.png": PNG,
    "two\nlines.png": PNG,
    "turned \u202egnp.png": PNG,
    " leading space.png": PNG,
    "[brackets] *?%s {x}.png": PNG,
    "dots.in.the.name.png": PNG,
    "folder.png/inside.png": PNG,
    "deep/" * 60 + "down.png": PNG,
}
"""Each has the caption `a ninja`."""

WORDS = {
    "ten thousand words": b"ninja " * 10_000,
    "byte order mark": b"\xef\xbb\xbfa ninja",
    "windows lines": b"a ninja\r\na fox\r\n\r\n",
    "emoji": "忍者 🦊".encode(),
}
"""Captions that are fine."""

BAD_WORDS = {
    "missing": (None, "no caption"),
    "empty": (b"", "no caption"),
    "blank": (b" \n\t\r\n", "no caption"),
    "latin-1": (b"caf\xe9", "caption not UTF-8"),
    "utf-16": ("a ninja".encode("utf-16"), "caption not UTF-8"),
    "zero bytes": (b"a\0ninja", "caption with control characters"),
    "escapes": (b"\x1b[31mred", "caption with control characters"),
    "second line bad": (b"fine\nnot \x07 fine", "caption with control characters"),
    "a whole book": (b"ninja " * 200_000, "caption too long"),
}

BAD_PICTURES = {
    "truncated.jpg": (JPEG[: len(JPEG) // 2], "damaged picture"),
    "truncated.png": (PNG[: len(PNG) // 2], "damaged picture"),
    "header only.jpg": (JPEG[:20], None),
    "no bytes.png": (b"", "no picture"),
    "text.png": (b"I am no picture", "no picture"),
    "page.jpg": (b"<html><body>404</body></html>", "no picture"),
    "random.webp": (bytes(range(256)) * 8, "no picture"),
    "bomb.png": (png_that_claims(60_000, 60_000), "too many pixels"),
    "hollow.png": (png_that_claims(500, 500), "damaged picture"),
    "phone.heic": (b"\0\0\0\x18ftypheic" + bytes(100), "no picture"),
    "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no picture"),
}

IGNORED = {
    ".DS_Store": "hidden files",
    "._plain.png": "hidden files",
    ".ipynb_checkpoints/plain.png": "hidden files",
    "README.md": ".md files",
    "LICENSE": "suffixless files",
    "notes.txt": "unused caption files",
    "Thumbs.db": ".db files",
}


def put(folder: Path, name: str, content: bytes, words: bytes | None = b"a ninja") -> None:
    picture = folder / name
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(content)
    if words is not None:
        picture.with_suffix(".txt").write_bytes(words)


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "hostile [folder] 忍"
    for name, content in USED.items():
        put(folder, name, content)
    for name, words in WORDS.items():
        put(folder, f"{name}.png", PNG, words)
    for name, (words, _) in BAD_WORDS.items():
        put(folder, f"{name}.png", PNG, words)
    for name, (content, _) in BAD_PICTURES.items():
        put(folder, name, content)
    for name in IGNORED:
        put(folder, name, b"", None)
    (folder / "empty folder").mkdir()
    (folder / "circle").symlink_to(folder)
    (folder / "to its parent").symlink_to("..")
    (folder / "second name").symlink_to("folder.png")
    for name, target in {
        "dangling": "gone",
        "itself": "itself.png",
        "endless": "/dev/zero",
    }.items():
        (folder / f"{name}.png").symlink_to(target)
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "piped words.txt")
    put(folder, "piped words.png", PNG, None)
    monkeypatch.chdir(folder)  # A socket's path may not be long.
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.png")
    (folder / os.fsdecode(b"\xff\xfe.png")).write_bytes(PNG)
    (folder / os.fsdecode(b"\xff\xfe.txt")).write_bytes(b"a ninja")
    return folder


OUT_OF_PLACE = ("dangling.png", "itself.png", "endless.png", "pipe.png", "socket.png")


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
    reasons["header only.jpg"] = skipped["header only.jpg"].reason  # Pillow's choice
    assert {name: picture.reason for name, picture in skipped.items()} == reasons
    for name, picture in skipped.items():
        assert picture.detail.startswith(f"{name}: ")
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
    assert source.skipped[0].detail.startswith("b.png: cannot be read (No such file")


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
