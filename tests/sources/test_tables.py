import os
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rasengan_xl.errors import DatasetError
from rasengan_xl.sources.pictures import Source

pytestmark = pytest.mark.usefixtures("hugging_face_cache")


def write(file: Path, **columns: list) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), file)
    return file


@pytest.fixture
def read(open_dataset):
    return open_dataset


def captions(source: Source) -> list[str]:
    return [" | ".join(picture.captions) for picture in source.pictures]


def test_a_parquet_file_is_read_row_by_row(encode, read, tmp_path: Path):
    cells = [{"bytes": encode(colour), "path": None} for colour in ("red", "blue")]
    source = read(write(tmp_path / "a.parquet", image=cells, text=["one", "two"]))
    assert captions(source) == ["one", "two"]
    assert [picture.name for picture in source.pictures] == ["row 0", "row 1"]
    assert source.pictures[1].read() == encode("blue")
    assert source.pictures[0].load().getpixel((0, 0)) == (255, 0, 0)


def test_a_replaced_file_is_not_taken_from_the_cache(encode, read, tmp_path: Path):
    file = write(tmp_path / "a.parquet", image=[encode("red")], text=["one"])
    assert captions(read(file)) == ["one"]
    write(file, image=[encode("red")], text=["two"])
    os.utime(file, ns=(0, 0))
    assert captions(read(file)) == ["two"]


def test_a_folder_gives_the_shards_of_its_split(encode, read, tmp_path: Path):
    folder = tmp_path / "pictures [new] *"
    for number, split in enumerate(("train", "train", "test")):
        name = f"data/{split}-0000{number}-of-00002.parquet"
        write(folder / name, image=[encode("red")], text=[f"{split} {number}"])
    (folder / "README.md").write_text("")
    source = read(folder)
    assert captions(source) == ["train 0", "train 1"]
    assert source.ignored == {"parquet files of another split": 1, "other files": 1}
    assert captions(read(folder, split="train[1:]")) == ["train 1"]
    assert captions(read(folder, split="test")) == ["test 2"]
    for shard in folder.glob("data/train*"):
        shard.unlink()
    with pytest.raises(DatasetError, match=r"no file of the split 'train' among test-00002"):
        read(folder)


def test_an_image_column_may_name_files_beside_the_table(encode, read, tmp_path: Path):
    (tmp_path / "a.png").write_bytes(encode("red"))
    file = write(tmp_path / "t.parquet", image=["a.png", "b.png"], text=["x", "y"])
    (skipped,) = read(file).skipped
    assert skipped.detail.startswith("cannot be read (No such file")
    (tmp_path / "b.png").write_bytes(encode("blue"))
    assert read(file).pictures[1].load().getpixel((0, 0)) == (0, 0, 255)


def test_a_cell_that_names_no_picture_costs_one_row(encode, read, tmp_path: Path):
    (tmp_path / "a.png").write_bytes(encode("red"))
    os.mkfifo(tmp_path / "pipe.png")
    cells = ["a.png", "a\0b.png", "foo://x/y.png", "pipe.png", ".", "", None]
    source = read(write(tmp_path / "t.parquet", image=cells, text=["x"] * len(cells)))
    assert [picture.name for picture in source.pictures] == ["row 0"]
    assert [skipped.reason for skipped in source.skipped] == ["unreadable file"] * 6
    assert "Protocol not known: foo" in source.skipped[1].detail


def test_wrong_columns_are_refused(encode, read, tmp_path: Path):
    red = [encode("red")]
    unknown = write(tmp_path / "a.parquet", sprite=red, words=["x"], number=[1])
    with pytest.raises(DatasetError, match="no image column is recognised among sprite, words"):
        read(unknown)
    assert captions(read(unknown, image_column="sprite", caption_column="words")) == ["x"]
    with pytest.raises(DatasetError, match="column 'number' does not hold text"):
        read(unknown, image_column="sprite", caption_column="number")
    with pytest.raises(DatasetError, match="column 'number' does not hold pictures"):
        read(unknown, image_column="number", caption_column="words")


def test_pictures_are_bytes_in_any_form_that_tables_have(encode, read, tmp_path: Path):
    red = encode("red")
    for number, cells in enumerate(
        [
            pa.array([red], pa.large_binary()),
            [{"bytes": red}],
            [{"bytes": red, "path": "elsewhere.png"}],
        ]
    ):
        file = write(tmp_path / f"{number}.parquet", image=cells, text=["x"])
        assert [picture.read() for picture in read(file).pictures] == [red]


def test_a_row_without_picture_or_caption_is_counted(encode, read, tmp_path: Path):
    red = encode("red")
    cells = {"image": [red, None, red, red], "text": ["x", "y", None, "z"]}
    source = read(write(tmp_path / "a.parquet", **cells))
    assert [picture.name for picture in source.pictures] == ["row 0", "row 3"]
    assert [(picture.name, picture.reason) for picture in source.skipped] == [
        ("row 1", "unreadable file"),
        ("row 2", "no caption"),
    ]
    assert "fill its column 'text' or remove the row" in source.skipped[1].detail


def test_a_list_column_holds_several_captions(encode, read, tmp_path: Path):
    words = [["one", "two"], [], [None, "three"]]
    source = read(write(tmp_path / "a.parquet", image=[encode("red")] * 3, text=words))
    assert captions(source) == ["one | two", "three"]
    assert [picture.reason for picture in source.skipped] == ["no caption"]


def test_a_label_column_names_the_class(encode, read, tmp_path: Path):
    red = encode("red")
    file = write(tmp_path / "a.parquet", image=[red, red], text=["x", "y"], category=["fox", None])
    assert [picture.class_name for picture in read(file).pictures] == ["fox", ""]
    features = datasets.Features(
        image=datasets.Image(),
        text=datasets.Value("string"),
        label=datasets.ClassLabel(names=["a", "b"]),
    )
    cells = [{"bytes": red, "path": None}] * 2
    table = datasets.Dataset.from_dict(
        {"image": cells, "text": ["x", "y"], "label": [1, -1]}, features=features
    )
    table.to_parquet(tmp_path / "labels.parquet")
    source = read(tmp_path / "labels.parquet")
    assert [picture.class_name for picture in source.pictures] == ["b", ""]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_damaged_file_is_named(encode, read, tmp_path: Path, streaming: bool):
    for number in range(3):
        write(tmp_path / f"{number}.parquet", image=[encode("red")] * 2, text=["x", "y"])
    damaged = tmp_path / "1.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-30])
    with pytest.raises(DatasetError, match=r"parquet|broke off") as caught:
        read(tmp_path, streaming=streaming)
    assert streaming or ": 1.parquet: cannot be read as parquet (" in str(caught.value)
    assert str(caught.value).isprintable()


def test_an_empty_table_is_refused(read, tmp_path: Path):
    file = write(
        tmp_path / "a.parquet", image=pa.array([], pa.binary()), text=pa.array([], pa.string())
    )
    with pytest.raises(DatasetError, match=r"parquet: the dataset is empty"):
        read(file)


def test_an_unchanged_table_is_not_hashed_again(
    encode, read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("rasengan_xl.file_digests._SETTLED_NS", 0)
    file = write(tmp_path / "a.parquet", image=[encode("red"), encode("blue")], text=["x", "y"])
    first = read(file)

    def refuse(*_: object) -> bytes:
        raise AssertionError("the cell was read")

    monkeypatch.setattr("rasengan_xl.sources.tables.read_picture_cell", refuse)
    assert read(file).pictures == first.pictures
    write(file, image=[encode("red"), encode("green")], text=["x", "y"])
    with pytest.raises(AssertionError, match="was read"):
        read(file)


def test_an_empty_shard_among_others_costs_nothing(encode, read, tmp_path: Path):
    write(tmp_path / "0.parquet", image=pa.array([], pa.binary()), text=pa.array([], pa.string()))
    write(tmp_path / "1.parquet", image=[encode("red")], text=["x"])
    assert captions(read(tmp_path)) == ["x"]
