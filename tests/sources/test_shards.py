from pathlib import Path

import datasets
import pyarrow as pa
import pytest

from rasengan_xl.errors import DatasetError
from rasengan_xl.sources.pictures import Source

pytestmark = pytest.mark.usefixtures("hugging_face_cache")
COLOURS = ("red", "green", "blue")


@pytest.fixture
def table(encode) -> datasets.Dataset:
    cells = [{"bytes": encode(colour), "path": None} for colour in COLOURS]
    features = datasets.Features(image=datasets.Image(), text=datasets.Value("string"))
    return datasets.Dataset.from_dict({"image": cells, "text": COLOURS}, features=features)


def captions(source: Source) -> list[str]:
    return [words for picture in source.pictures for words in picture.captions]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["stream", "file"])
def test_arrow_shards_are_read(open_dataset, table, tmp_path: Path, kind: str, streaming: bool):
    rows = table.data.table
    new = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
    for number in range(2):
        with new(tmp_path / f"{number}.arrow", rows.schema) as writer:
            writer.write_table(rows)
    source = open_dataset(tmp_path, split="train[1:5]", streaming=streaming)
    assert captions(source) == ["green", "blue", "red", "green"]
    assert source.pictures[1].load().getpixel((0, 0)) == (0, 0, 255)


def test_a_damaged_arrow_shard_is_named(open_dataset, table, tmp_path: Path):
    for number in range(2):
        with pa.ipc.new_stream(tmp_path / f"{number}.arrow", table.data.schema) as writer:
            writer.write_table(table.data.table)
    damaged = tmp_path / "1.arrow"
    damaged.write_bytes(damaged.read_bytes()[:400])
    with pytest.raises(DatasetError, match=r": 1\.arrow: cannot be read as arrow \("):
        open_dataset(tmp_path)


def test_a_saved_table_is_mapped(open_dataset, table, tmp_path: Path):
    table.save_to_disk(tmp_path)
    assert captions(open_dataset(tmp_path)) == list(COLOURS)
    assert captions(open_dataset(tmp_path, split="train[:34%]")) == ["red"]
    with pytest.raises(DatasetError, match="is not understood"):
        open_dataset(tmp_path, split="train[x:]")
    (tmp_path / "data-00000-of-00001.arrow").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"cannot be read as a saved dataset \(.+\): save it"):
        open_dataset(tmp_path)


def test_a_saved_dataset_has_splits(open_dataset, table, tmp_path: Path):
    splits = datasets.DatasetDict(train=table, test=table.select([2]))
    splits.save_to_disk(tmp_path)
    assert captions(open_dataset(tmp_path, split="test")) == ["blue"]
    with pytest.raises(DatasetError, match=r"no split 'dev' among train, test"):
        open_dataset(tmp_path, split="dev")


def test_several_formats_in_one_folder_are_refused(open_dataset, tmp_path: Path):
    for name in ("a.arrow", "b.tar", "._c.parquet"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DatasetError, match=r"holds \.arrow and \.tar side by side"):
        open_dataset(tmp_path)
