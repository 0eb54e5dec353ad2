import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rasengan_xl.dataset import sources
from rasengan_xl.dataset.pictures import Source
from rasengan_xl.dataset.sources import open_source
from rasengan_xl.errors import DatasetError


@pytest.fixture
def folder(encode, tmp_path: Path) -> Path:
    (tmp_path / "a.png").write_bytes(encode("red"))
    (tmp_path / "a.txt").write_text("a ninja")
    return tmp_path


def test_mini_is_the_embedded_dataset():
    source = open_source("mini")
    assert (source.name, len(source.pictures)) == ("mini", 1221)


def test_a_folder_of_pictures_is_read(folder: Path):
    assert [picture.caption for picture in open_source(str(folder)).pictures] == ["a ninja"]


@pytest.mark.usefixtures("hugging_face_cache")
def test_parquet_is_read_from_a_file_and_from_its_folder(encode, tmp_path: Path):
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"img": [encode("red")], "prompt": ["a ninja"]}), file)
    for path in (file, tmp_path):
        source = open_source(str(path))
        assert source.name == str(path)
        assert [picture.caption for picture in source.pictures] == ["a ninja"]


def test_the_same_pictures_have_the_same_digests_in_any_container(
    encode, folder: Path, tmp_path_factory, hugging_face_cache: Path
):
    file = tmp_path_factory.mktemp("table") / "a.parquet"
    pq.write_table(pa.table({"image": [encode("red")], "text": ["a ninja"]}), file)
    (from_table,) = open_source(str(file)).pictures
    (from_folder,) = open_source(str(folder)).pictures
    assert from_table.digest == from_folder.digest


def test_a_hub_id_is_read_from_the_hub_unless_a_folder_has_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[tuple[str, object]] = []

    def read_hub(identifier: str, **options: object) -> Source:
        asked.append((identifier, options))
        return Source(name=identifier, revision="c", pictures=(), ignored={})

    monkeypatch.setattr(sources, "read_hub", read_hub)
    monkeypatch.chdir(folder.parent)
    assert open_source("owner/name", revision="v1", caption_column="words").revision == "c"
    told = {"split": "train", "image_column": None, "caption_column": "words"}
    assert asked == [("owner/name", {"revision": "v1", **told})]
    local = folder / "owner" / "name"
    local.mkdir(parents=True)
    for file in ("a.png", "a.txt"):
        (folder / file).rename(local / file)
    monkeypatch.chdir(folder)
    assert open_source("owner/name").revision is None


def test_what_is_no_dataset_is_refused_with_a_remedy(folder: Path):
    with pytest.raises(DatasetError, match=r"no such file or folder, and not a hub id"):
        open_source(str(folder / "gone"))
    with pytest.raises(DatasetError, match=r"naruto: no such file or folder"):
        open_source("naruto")
    archive = folder / "pictures.zip"
    archive.write_bytes(b"PK")
    with pytest.raises(DatasetError, match=r"pictures\.zip: neither a folder nor .*unpack"):
        open_source(str(archive))


def test_a_revision_of_something_local_is_noted_as_ignored(
    folder: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING):
        open_source(str(folder), revision="main")
    assert "its revision main is ignored" in caplog.text
