import os
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rasengan_xl.dataset.pictures import Source
from rasengan_xl.dataset.tables import holds_parquet, read_parquet, take_rows
from rasengan_xl.errors import DatasetError

pytestmark = pytest.mark.usefixtures("hugging_face_cache")


def write(file: Path, **columns: list) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), file)
    return file


def read(path: Path, split: str = "train", **columns: str) -> Source:
    told = {"image_column": None, "caption_column": None, **columns}
    return read_parquet(path, name="table", split=split, **told)


def captions(source: Source) -> list[str]:
    return [picture.caption for picture in source.pictures]


def test_a_parquet_file_is_read_row_by_row(encode, tmp_path: Path):
    cells = [{"bytes": encode(colour), "path": None} for colour in ("red", "blue")]
    source = read(write(tmp_path / "a.parquet", image=cells, text=["one", "two"]))
    assert captions(source) == ["one", "two"]
    assert [picture.name for picture in source.pictures] == ["row 0", "row 1"]
    assert source.pictures[1].read() == encode("blue")
    assert source.pictures[0].load().getpixel((0, 0)) == (255, 0, 0)


def test_a_replaced_file_is_not_taken_from_the_cache(encode, tmp_path: Path):
    file = write(tmp_path / "a.parquet", image=[encode("red")], text=["one"])
    assert captions(read(file)) == ["one"]
    write(file, image=[encode("red")], text=["two"])
    os.utime(file, ns=(0, 0))
    assert captions(read(file)) == ["two"]


def test_a_folder_gives_the_shards_of_its_split(encode, tmp_path: Path):
    folder = tmp_path / "pictures [new] *"
    for number, split in enumerate(("train", "train", "test")):
        name = f"data/{split}-0000{number}-of-00002.parquet"
        write(folder / name, image=[encode("red")], text=[f"{split} {number}"])
    (folder / "README.md").write_text("")
    assert holds_parquet(folder)
    source = read(folder)
    assert captions(source) == ["train 0", "train 1"]
    assert source.ignored == {"parquet files of another split": 1, "other files": 1}
    assert captions(read(folder, split="train[1:]")) == ["train 1"]
    assert captions(read(folder, split="test")) == ["test 2"]
    for shard in folder.glob("data/train*"):
        shard.unlink()
    with pytest.raises(DatasetError, match=r"no file of the split 'train' among test-00002"):
        read(folder)


def test_a_folder_of_pictures_holds_no_parquet(encode, tmp_path: Path):
    (tmp_path / "a.png").write_bytes(encode("red"))
    assert not holds_parquet(tmp_path)
    assert not holds_parquet(tmp_path / "a.png")


def test_an_image_column_may_name_files_beside_the_table(encode, tmp_path: Path):
    (tmp_path / "a.png").write_bytes(encode("red"))
    file = write(tmp_path / "t.parquet", image=["a.png", "b.png"], text=["x", "y"])
    with pytest.raises(DatasetError, match=r"table: row 1: not a readable picture .*b\.png"):
        read(file)
    (tmp_path / "b.png").write_bytes(encode("blue"))
    assert read(file).pictures[1].load().getpixel((0, 0)) == (0, 0, 255)


def test_wrong_columns_are_refused(encode, tmp_path: Path):
    red = [encode("red")]
    unknown = write(tmp_path / "a.parquet", sprite=red, words=["x"], number=[1])
    with pytest.raises(DatasetError, match="no image column is recognised among sprite, words"):
        read(unknown)
    assert captions(read(unknown, image_column="sprite", caption_column="words")) == ["x"]
    with pytest.raises(DatasetError, match="column 'number' does not hold text"):
        read(unknown, image_column="sprite", caption_column="number")
    with pytest.raises(DatasetError, match="column 'number' does not hold pictures"):
        read(unknown, image_column="number", caption_column="words")


def test_pictures_are_bytes_in_any_form_that_tables_have(encode, tmp_path: Path):
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


def test_a_row_without_picture_or_caption_is_refused(encode, tmp_path: Path):
    red = encode("red")
    file = write(tmp_path / "a.parquet", image=[red, None], text=["x", "y"])
    with pytest.raises(DatasetError, match=r"table: row 1: .*the cell is empty"):
        read(file)
    file = write(tmp_path / "b.parquet", image=[red, red], text=["x", None])
    with pytest.raises(DatasetError, match="row 1: no caption: fill its column 'text' or remove"):
        read(file)


def test_a_damaged_or_empty_table_is_refused(tmp_path: Path):
    file = tmp_path / "a.parquet"
    file.write_bytes(b"PAR1 but not really")
    with pytest.raises(DatasetError, match=r"table: cannot be read as parquet \(.*magic"):
        read(file)
    empty = datasets.Dataset.from_dict({"image": [], "text": []})
    with pytest.raises(DatasetError, match="table: the dataset is empty"):
        take_rows(empty, "table", image_column=None, caption_column=None)
