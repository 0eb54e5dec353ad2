from pathlib import Path

import pytest

from rasengan_xl.errors import DatasetError
from rasengan_xl.sources.candidates import Fault
from rasengan_xl.sources.metadata import read_metadata


def read(folder: Path, name: str, text: str, column: str | None = None) -> list[tuple]:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    rows = read_metadata(file, column)
    return [(row.file_name, row.captions, row.class_name) for row in rows]


def test_json_lines_are_read(tmp_path: Path):
    text = (
        '{"file_name": "a.png", "text": "a \\"ninja\\""}\n\n{"file_name": "b.png", "text": null}\n'
    )
    first, second = read(tmp_path, "metadata.jsonl", text)
    assert first == ("a.png", ('a "ninja"',), None)
    assert second[1] == Fault("no caption", "no caption: put one into line 3 of metadata.jsonl")


def test_csv_is_read_with_quotes_line_breaks_and_a_byte_order_mark(tmp_path: Path):
    text = '\ufefffile_name,caption,class\na.png,"a ninja, running\nfast",fox\n'
    expected = [("a.png", ("a ninja, running fast",), "fox")]
    assert read(tmp_path, "metadata.csv", text) == expected


def test_the_caption_column_can_be_told(tmp_path: Path):
    text = "file_name,text,long\na.png,short,longer\n"
    assert read(tmp_path, "metadata.csv", text, "long") == [("a.png", ("longer",), None)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metadata.jsonl", '{"file_name": "a.png", "text": "x"}\n{"file', r"line 2: not JSON"),
        ("metadata.jsonl", '["a.png"]', r"line 1: make it one object"),
        ("metadata.jsonl", '{"text": "x"}', r"line 1: no file_name"),
        ("metadata.jsonl", '{"file_name": "a.png", "text": 5}', r"line 1: the caption is 5"),
        ("metadata.csv", "file_name;text\na.png;x\n", r"line 2: no file_name"),
        ("metadata.csv", "file_name,words\na.png,x\n", r"line 2: .* among file_name, words"),
        ("metadata.csv", "file_name,text\na.png,red, green\n", r"line 2: more fields .* quotes"),
        ("metadata.csv", 'file_name,text\na.png,"never closed\n', r"line 2: .*mend it"),
    ],
)
def test_a_malformed_row_is_refused_by_its_line(tmp_path: Path, name: str, text: str, message: str):
    with pytest.raises(DatasetError, match=rf"{name}, {message}"):
        read(tmp_path, name, text)


def test_text_that_is_not_utf_8_is_refused(tmp_path: Path):
    (tmp_path / "metadata.csv").write_bytes("file_name,text\na.png,é\n".encode("latin-1"))
    with pytest.raises(DatasetError, match=r"metadata\.csv: .*save it as UTF-8"):
        list(read_metadata(tmp_path / "metadata.csv", None))
