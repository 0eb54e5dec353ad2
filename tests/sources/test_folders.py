from pathlib import Path

import pytest

from rasengan_xl.errors import DatasetError
from rasengan_xl.sources.pictures import Source


def write(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


@pytest.fixture
def read(open_dataset, monkeypatch: pytest.MonkeyPatch):
    def read(folder: Path, origin: str = "files") -> Source:
        monkeypatch.chdir(folder.parent)
        return open_dataset(folder.name, origin)

    return read


def captions(source: Source) -> dict[str, str]:
    return {picture.name: " | ".join(picture.captions) for picture in source.pictures}


def test_captions_beside_the_pictures_are_read_in_the_order_of_paths(encode, read, tmp_path: Path):
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
    encode, read, tmp_path: Path, name: str, text: str
):
    files = {name: text, "a.png": encode("red"), "a.txt": "beside", "b.png": encode("blue")}
    source = read(write(tmp_path, {**files, "b.txt": "kept"}))
    assert captions(source) == {"a.png": "told", "b.png": "kept"}
    assert source.ignored == {"unused caption files": 1}


def test_metadata_name_pictures_from_their_own_folder(encode, read, tmp_path: Path):
    rows = "file_name,text\na.png,one\ndeep\\b.png,two\n"
    files = {"sub/metadata.csv": rows, "sub/a.png": encode("red"), "sub/deep/b.png": encode("red")}
    assert captions(read(write(tmp_path, files))) == {"sub/a.png": "one", "sub/deep/b.png": "two"}


def test_other_files_are_passed_over_and_counted(encode, read, tmp_path: Path):
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


def test_a_missing_caption_is_counted_with_its_remedy(encode, read, tmp_path: Path):
    write(tmp_path, {"a.png": encode("red"), "a.txt": "x", "sub/b.png": encode("red")})
    for _ in range(2):
        (skipped,) = read(tmp_path).skipped
        assert skipped.reason == "no caption"
        told = "no caption: put one into b.txt or metadata.jsonl"
        assert skipped.detail == told
        write(tmp_path, {"sub/b.txt": "  \n"})


def test_each_line_and_each_item_of_a_list_is_a_caption(encode, read, tmp_path: Path):
    row = '{"file_name": "b.png", "text": ["three", null, " four "]}\n'
    files = {"a.png": encode("red"), "a.txt": "one\r\n\r\n two\twords \r\n"}
    source = read(write(tmp_path, {**files, "b.png": encode("red"), "metadata.jsonl": row}))
    assert [picture.captions for picture in source.pictures] == [
        ("one", "two words"),
        ("three", "four"),
    ]


def test_the_class_is_the_folder_or_the_label(encode, read, tmp_path: Path):
    rows = "file_name,text,label\nsub/b.png,two,fox\nsub/c.png,three,\n"
    files = {"a.png": encode("red"), "a.txt": "one", "metadata.csv": rows}
    files |= {f"sub/{name}.png": encode("red") for name in "bcd"}
    source = read(write(tmp_path, {**files, "sub/d.txt": "four"}))
    assert [picture.class_name for picture in source.pictures] == ["", "fox", "", "sub"]


def test_the_name_of_the_folder_is_the_caption_on_request(encode, read, tmp_path: Path):
    root = tmp_path / "my_ninja-style"
    files = {"a.png": encode("red"), "a.txt": "unused", "deep/red-haired_fox/b.png": encode("red")}
    source = read(write(root, {**files, "metadata.csv": "not even read"}), "folder_name")
    assert captions(source) == {
        "a.png": "my ninja style",
        "deep/red-haired_fox/b.png": "red haired fox",
    }
    assert source.pictures[1].class_name == "red-haired_fox"
    assert source.ignored == {"unused caption files": 1, "unused metadata files": 1}


def test_names_that_differ_in_case_are_two_pictures(encode, read, tmp_path: Path):
    files = {"a.png": encode("red"), "A.png": encode("red"), "b.png": encode("red")}
    source = read(write(tmp_path, {**files, "a.txt": "small", "A.txt": "large", "B.txt": "none"}))
    assert captions(source) == {"A.png": "large", "a.png": "small"}
    assert [picture.name for picture in source.skipped] == ["b.png"]


def test_a_linked_folder_is_read_under_its_own_name(encode, read, tmp_path: Path):
    write(tmp_path / "elsewhere", {"b.png": encode("red"), "b.txt": "linked"})
    folder = write(tmp_path / "pictures", {"a.png": encode("red"), "a.txt": "here"})
    (folder / "more").symlink_to(tmp_path / "elsewhere")
    assert captions(read(folder)) == {"a.png": "here", "more/b.png": "linked"}


def test_metadata_may_name_pictures_from_the_root(encode, read, tmp_path: Path):
    rows = f"file_name,text\n{tmp_path}/sub/a.png,x\n"
    write(tmp_path, {"sub/a.png": encode("red"), "metadata.csv": rows})
    assert captions(read(tmp_path)) == {"sub/a.png": "x"}


def test_metadata_that_name_a_missing_picture_are_refused(encode, read, tmp_path: Path):
    rows = "file_name,text\na.png,x\ngone.png,y\n"
    write(tmp_path, {"a.png": encode("red"), "metadata.csv": rows})
    with pytest.raises(DatasetError, match=r"metadata\.csv, line 3: no picture gone\.png"):
        read(tmp_path)


def test_a_picture_named_twice_is_refused(encode, read, tmp_path: Path):
    rows = "file_name,text\na.png,x\na.png,y\n"
    write(tmp_path, {"a.png": encode("red"), "metadata.csv": rows})
    with pytest.raises(DatasetError, match=r"line 3: a\.png is named a second time"):
        read(tmp_path)


def test_a_folder_without_pictures_is_refused_with_what_it_holds(read, tmp_path: Path):
    with pytest.raises(DatasetError, match=r"no pictures .*found: nothing"):
        read(tmp_path)
    write(tmp_path, {"a.mov": b"", "b.mov": b""})
    with pytest.raises(DatasetError, match=r"found: 2 \.mov files"):
        read(tmp_path)
