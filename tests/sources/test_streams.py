from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rasengan_xl.errors import DatasetError
from rasengan_xl.sources.scanning import CANDIDATES_AHEAD
from rasengan_xl.sources.streams import RowStream

NUM_ROWS = CANDIDATES_AHEAD + 100


@pytest.fixture
def shards(encode, tmp_path: Path) -> Path:
    for number, colour in enumerate(("red", "blue")):
        names = [f"{colour} {row}" for row in range(NUM_ROWS // 2)]
        cells = pa.table({"image": [encode(colour)] * len(names), "text": names, "label": names})
        pq.write_table(cells, tmp_path / f"{number}.parquet")
    return tmp_path


def test_a_stream_gives_what_the_table_gives(
    open_dataset, shards: Path, hugging_face_cache: Path, encode
):
    streamed = open_dataset(shards, streaming=True)
    assert not list(hugging_face_cache.rglob("*.arrow"))  # Nothing was stored.
    assert streamed.pictures == open_dataset(shards).pictures
    assert len(streamed.pictures) == NUM_ROWS
    assert streamed.pictures[-1].class_name == f"blue {NUM_ROWS // 2 - 1}"
    # Forwards, backwards, and from threads.
    with ThreadPoolExecutor(4) as pool:
        contents = list(pool.map(lambda picture: picture.read(), reversed(streamed.pictures[-60:])))
    assert contents == [encode("blue")] * 60
    assert streamed.pictures[0].read() == encode("red")


def test_a_stream_is_sliced_by_row_numbers(open_dataset, shards: Path):
    half = NUM_ROWS // 2
    source = open_dataset(shards, streaming=True, split=f"train[{half - 1}:{half + 1}]")
    names = [picture.captions[0] for picture in source.pictures]
    assert names == [f"red {half - 1}", "blue 0"]
    assert [picture.name for picture in source.pictures] == ["row 0", "row 1"]
    for split in ("train[:10%]", "train[-5:]", "train+test"):
        with pytest.raises(DatasetError, match=r"is not understood: write .* for a stream"):
            open_dataset(shards, streaming=True, split=split)


def test_a_wrong_column_of_a_stream_is_refused(open_dataset, shards: Path):
    with pytest.raises(DatasetError, match="there is no column 'words' among image, text, label"):
        open_dataset(shards, streaming=True, caption_column="words")
    with pytest.raises(DatasetError, match="column 'image' does not hold text"):
        open_dataset(shards, streaming=True, caption_column="image")


def test_reading_in_order_goes_through_a_stream_once():
    begun = []

    def generate() -> Iterator[dict[str, int]]:
        begun.append("")
        for number in range(NUM_ROWS):
            yield {"number": number}

    stream = RowStream(datasets.IterableDataset.from_generator(generate), "s")
    begun.clear()
    order = [number ^ 1 for number in range(NUM_ROWS)]  # Neighbours change places.
    assert [stream.row(number) for number in order] == [{"number": number} for number in order]
    assert len(begun) == 1
    assert stream.row(NUM_ROWS) is None
    assert stream.row(0) == {"number": 0}
    assert len(begun) == 2


def test_a_stream_that_breaks_off_is_one_line_and_begins_anew():
    broken = [True]

    def generate() -> Iterator[dict[str, int]]:
        yield {"number": 0}
        if broken:
            raise ConnectionError("no route\nto host")
        yield {"number": 1}

    stream = RowStream(datasets.IterableDataset.from_generator(generate), "owner/name")
    assert stream.row(0) == {"number": 0}
    told = r"owner/name: the stream broke off after 1 rows \(no route to host\): try again"
    with pytest.raises(DatasetError, match=told):
        stream.row(1)
    broken.clear()
    assert stream.row(1) == {"number": 1}
