from pathlib import Path

import pytest

from rasengan_xl.dataset.folders import read_folder
from rasengan_xl.dataset.pictures import Source
from rasengan_xl.errors import DatasetError


def write(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def read(folder: Path) -> Source:
    return read_folder(folder, name="pics")


def captions(source: Source) -> dict[str, str]:
    return {picture.name: picture.caption for picture in source.pictures}


def test_captions_beside_the_pictures_are_read_in_the_order_of_paths(encode, tmp_path: Path):
    red = encode("red")
    folder = write(
        tmp_path,
        {
            "sub/c.webp": encode("red", file_format="WEBP"),
            "sub/c.caption": "third",
            "b.JPG": encode("red", file_format="JPEG"),
            "b.TXT": "second\n",
            "a.png": red,
            "a.txt": "\ufefffirst",
        },
    )
    source = read(folder)
    expected = [("a.png", "first"), ("b.JPG", "second"), ("sub/c.webp", "third")]
    assert list(captions(source).items()) == expected
    assert source.ignored == {}
    assert source.revision is None
    assert [picture.load().size for picture in source.pictures] == [(8, 6)] * 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.jsonl", '{"file_name": "a.png", "text": "told"}\n'),
        ("metadata.csv", "file_name,prompt\n./a.png,told\n"),
    ],
)
def test_metadata_go_before_the_file_beside_the_picture(
    encode, tmp_path: Path, name: str, text: str
):
    files = {name: text, "a.png": encode("red"), "a.txt": "beside", "b.png": encode("blue")}
    source = read(write(tmp_path, {**files, "b.txt": "kept"}))
    assert captions(source) == {"a.png": "told", "b.png": "kept"}
    assert source.ignored == {"unused caption files": 1}


def test_metadata_name_pictures_from_their_own_folder(encode, tmp_path: Path):
    rows = "file_name,text\na.png,one\ndeep\\b.png,two\n"
    files = {"sub/metadata.csv": rows, "sub/a.png": encode("red"), "sub/deep/b.png": encode("red")}
    assert captions(read(write(tmp_path, files))) == {"sub/a.png": "one", "sub/deep/b.png": "two"}


def test_other_files_are_passed_over_and_counted(encode, tmp_path: Path):
    files = {"a.png": encode("red"), "a.txt": "x", "README.md": "", "notes.txt": "", "LICENSE": ""}
    hidden = {".DS_Store": "", ".ipynb_checkpoints/a-checkpoint.png": encode("red"), "._a.png": ""}
    source = read(write(tmp_path, {**files, **hidden}))
    assert list(captions(source)) == ["a.png"]
    assert source.ignored == {
        ".md files": 1,
        "hidden files": 3,
        "suffixless files": 1,
        "unused caption files": 1,
    }


def test_a_missing_caption_is_refused_with_its_remedy(encode, tmp_path: Path):
    write(tmp_path, {"a.png": encode("red"), "a.txt": "x", "sub/b.png": encode("red")})
    remedy = r"pics: sub/b\.png: no caption: put one into b\.txt or metadata\.jsonl$"
    with pytest.raises(DatasetError, match=remedy):
        read(tmp_path)
    write(tmp_path, {"sub/b.txt": "  \n"})
    with pytest.raises(DatasetError, match=remedy):
        read(tmp_path)


def test_an_unreadable_picture_is_refused(encode, tmp_path: Path):
    write(tmp_path, {"a.png": encode("red"), "a.txt": "x", "b.jpg": b"<html>", "b.txt": "y"})
    with pytest.raises(DatasetError, match=r"pics: b\.jpg: not a readable .*remove or repair"):
        read(tmp_path)


def test_metadata_that_name_a_missing_picture_are_refused(encode, tmp_path: Path):
    rows = "file_name,text\na.png,x\ngone.png,y\n"
    write(tmp_path, {"a.png": encode("red"), "metadata.csv": rows})
    with pytest.raises(DatasetError, match=r"metadata\.csv, line 3: no picture gone\.png"):
        read(tmp_path)


def test_a_picture_named_twice_is_refused(encode, tmp_path: Path):
    rows = "file_name,text\na.png,x\na.png,y\n"
    write(tmp_path, {"a.png": encode("red"), "metadata.csv": rows})
    with pytest.raises(DatasetError, match=r"line 3: a\.png is named a second time"):
        read(tmp_path)


def test_a_folder_without_pictures_is_refused_with_what_it_holds(tmp_path: Path):
    with pytest.raises(DatasetError, match=r"pics: no pictures .*found: nothing"):
        read(tmp_path)
    write(tmp_path, {"a.heic": b"", "b.heic": b""})
    with pytest.raises(DatasetError, match=r"found: 2 \.heic files"):
        read(tmp_path)
