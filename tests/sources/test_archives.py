import json
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from rasengan_xl.errors import DatasetError
from rasengan_xl.sources.pictures import Source


def pack(file: Path, members: dict[str, bytes | str]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as archive:
        for name, content in members.items():
            data = content if isinstance(content, bytes) else content.encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, BytesIO(data))
    return file


def captions(source: Source) -> dict[str, tuple[str, ...]]:
    return {picture.name: picture.captions for picture in source.pictures}


def test_members_of_one_name_are_a_sample(encode, open_dataset, tmp_path: Path):
    shard = pack(
        tmp_path / "000.tar",
        {
            "0.png": encode("red"),
            "0.txt": "one\ntwo\n",
            "0.cls": "fox\n",
            "deep/1.v2.JPG": encode("blue", file_format="JPEG"),
            "deep/1.json": json.dumps({"caption": ["three"], "label": "ninja", "width": 8}),
        },
    )
    source = open_dataset(shard)
    assert captions(source) == {"0.png": ("one", "two")}
    assert source.ignored == {"samples without a picture": 1}
    source = open_dataset(shard, image_column="v2.jpg")
    assert captions(source) == {"deep/1.v2.jpg": ("three",)}
    assert source.pictures[0].class_name == "ninja"
    assert source.pictures[0].load().getpixel((0, 0))[2] > 250


def test_samples_need_not_be_alike(encode, open_dataset, tmp_path: Path):
    members: dict[str, bytes | str] = {}
    for number in range(9):
        ending = "png" if number < 7 else "jpg"
        members[f"{number}.{ending}"] = encode("red", file_format="PNG" if number < 7 else "JPEG")
        members |= {f"{number}.txt": "x"} if number % 2 else {f"{number}.json": '{"text": "y"}'}
    source = open_dataset(pack(tmp_path / "000.tar", members))
    assert list(captions(source)) == [*(f"{n}.png" for n in range(7)), "7.jpg", "8.jpg"]
    assert source.ignored == {}


def test_a_member_that_gives_way_to_another_is_counted(encode, open_dataset, tmp_path: Path):
    members = {"0.JPG": b"old", "0.jpg": encode("red"), "0.png": encode("blue"), "0.txt": "x"}
    source = open_dataset(pack(tmp_path / "000.tar", members))
    assert captions(source) == {"0.jpg": ("x",)}
    assert source.ignored == {
        "further pictures of a sample": 1,
        "members replaced later in their archive": 1,
    }


def test_a_folder_gives_the_samples_of_its_split(encode, open_dataset, tmp_path: Path):
    for name in ("train-0", "train-1", "test-0"):
        members = {f"{name}-{n}.{end}": encode("red") for n in range(2) for end in ("png",)}
        pack(
            tmp_path / "data" / f"{name}.tar", members | {f"{name}-{n}.txt": name for n in range(2)}
        )
    source = open_dataset(tmp_path, split="train[1:3]")
    assert list(captions(source)) == ["train-0-1.png", "train-1-0.png"]
    assert source.ignored == {"tar files of another split": 1}
    with pytest.raises(DatasetError, match=r"dataset\.split: 'train\[oops\]' is not understood"):
        open_dataset(tmp_path, split="train[oops]")


def test_a_sample_that_cannot_be_used_is_counted(encode, open_dataset, tmp_path: Path):
    red = encode("red")
    shard = pack(
        tmp_path / "a.tar",
        {
            "good.png": red,
            "good.txt": "x",
            "silent.png": red,
            "latin.png": red,
            "latin.txt": b"\xe9",
            "broken.png": red[:-30],
            "broken.txt": "x",
            "json.png": red,
            "json.json": "{",
            "number.png": red,
            "number.json": '{"text": 5}',
            "words.txt": "no picture",
            "._good.png": b"",
            "README": "",
        },
    )
    with tarfile.open(shard, "a") as archive:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "good.png"
        archive.addfile(link)
    source = open_dataset(shard)
    assert list(captions(source)) == ["good.png"]
    assert {picture.name: picture.reason for picture in source.skipped} == {
        "silent.png": "no caption",
        "latin.png": "caption not UTF-8",
        "broken.png": "damaged picture",
        "json.png": "unreadable caption",
        "number.png": "unreadable caption",
        "link.png": "no regular file",
    }
    counts = {"hidden files": 1, "samples without a picture": 1, "suffixless files": 1}
    assert source.ignored == counts


@pytest.mark.parametrize("damage", ["cut in a picture", "cut between", "header", "joined", "text"])
def test_a_damaged_archive_is_named(encode, open_dataset, tmp_path: Path, damage: str):
    members = {
        f"{n}.{end}": encode("red") if end == "png" else b"x"
        for n in range(4)
        for end in ("png", "txt")
    }
    content = pack(tmp_path / "0.tar", members).read_bytes()
    with tarfile.open(tmp_path / "0.tar") as archive:
        places = [(member.offset, member.offset_data) for member in archive]
    start, data = places[4]
    damaged = {
        "cut in a picture": content[: data + 5],
        "cut between": content[:start],
        "header": content[:start] + b"?" * 512 + content[data:],
        "joined": content + content,
        "text": b"no archive",
    }
    (tmp_path / "1.tar").write_bytes(damaged[damage])
    with pytest.raises(DatasetError, match=r": 1\.tar: cannot be read as tar \(.+\): pack or"):
        open_dataset(tmp_path)


def test_an_archive_without_pictures_is_refused(encode, open_dataset, tmp_path: Path):
    shard = pack(tmp_path / "a.tar", {"0.dat": encode("red"), "0.txt": "x"})
    with pytest.raises(DatasetError, match=r"no member .* is a picture .*end in: dat, txt"):
        open_dataset(shard)
    assert list(captions(open_dataset(shard, image_column="dat"))) == ["0.dat"]
    with pytest.raises(DatasetError, match="the dataset is empty"):
        open_dataset(pack(tmp_path / "b.tar", {}))
