import logging
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rasengan_xl.config.dataset_settings import DatasetSettings
from rasengan_xl.errors import DatasetError
from rasengan_xl.sources import opening
from rasengan_xl.sources.candidates import Candidate, Listing


@pytest.fixture
def folder(encode, tmp_path: Path) -> Path:
    (tmp_path / "a.png").write_bytes(encode("red"))
    (tmp_path / "a.txt").write_text("a ninja")
    return tmp_path


def test_mini_is_the_embedded_dataset(open_dataset):
    source = open_dataset("mini")
    assert (source.name, len(source.pictures)) == ("mini", 1221)


@pytest.mark.usefixtures("hugging_face_cache")
def test_the_same_pictures_have_the_same_digests_in_any_container(
    encode, open_dataset, folder: Path, tmp_path_factory
):
    file = tmp_path_factory.mktemp("table") / "a.parquet"
    pq.write_table(pa.table({"img": [encode("red")], "prompt": ["a ninja"]}), file)
    for path in (file, file.parent):
        source = open_dataset(path)
        assert source.name == str(path)
        (from_table,) = source.pictures
        (from_folder,) = open_dataset(folder).pictures
        assert from_table.digest == from_folder.digest


def test_a_hub_id_is_read_from_the_hub_unless_a_folder_has_its_name(
    encode, open_dataset, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    def list_hub(settings: DatasetSettings) -> Listing:
        assert (settings.revision, settings.config) == ("v1", "large")
        one = Candidate(name="row 0", captions=("a",), read=lambda: encode("red"))
        return Listing(name=settings.source, revision="c", candidates=[one])

    monkeypatch.setattr(opening, "list_hub", list_hub)
    monkeypatch.chdir(folder.parent)
    assert open_dataset("owner/name", revision="v1", config="large").revision == "c"
    local = folder / "owner" / "name"
    local.mkdir(parents=True)
    for file in ("a.png", "a.txt"):
        (folder / file).rename(local / file)
    monkeypatch.chdir(folder)
    assert open_dataset("owner/name").revision is None


def test_what_is_no_dataset_is_refused_with_a_remedy(open_dataset, folder: Path):
    with pytest.raises(DatasetError, match=r"no such file or folder, and not a hub id"):
        open_dataset(folder / "gone")
    for name in ("naruto", "", "nul\0l", str(folder / "a.png" / "b")):
        with pytest.raises(DatasetError, match=r": no such file or folder"):
            open_dataset(name)
    with pytest.raises(DatasetError, match=r"x: cannot be opened \(.*File name too long"):
        open_dataset(f"{folder}/{'x' * 300}")
    os.mkfifo(folder / "pipe.tar")
    with pytest.raises(DatasetError, match=r"pipe\.tar: neither a folder nor"):
        open_dataset(folder / "pipe.tar")
    archive = folder / "pictures.zip"
    archive.write_bytes(b"PK")
    with pytest.raises(DatasetError, match=r"pictures\.zip: neither a folder nor .*unpack"):
        open_dataset(archive)


def test_pictures_beside_shards_are_refused(open_dataset, folder: Path):
    (folder / "b.parquet").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"holds \.parquet and pictures side by side"):
        open_dataset(folder)


def test_what_only_the_hub_has_is_noted_as_ignored(
    open_dataset, folder: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING):
        open_dataset(folder, revision="main", config="large", split="test")
    for words in ("its revision main is", "its config large is", "whatever the split test"):
        assert words in caplog.text


def test_only_a_folder_of_pictures_takes_captions_from_folder_names(open_dataset):
    for source in ("mini", "owner/name"):
        with pytest.raises(DatasetError, match=rf"{source}: no folder of pictures"):
            open_dataset(source, "folder_name")
