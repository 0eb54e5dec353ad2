from types import SimpleNamespace

import datasets
import huggingface_hub
import pytest

from rasengan_xl.errors import DatasetError
from rasengan_xl.sources.hub import is_hub_id
from rasengan_xl.sources.pictures import Source

COMMIT = "0123456789" * 4
OTHER_COMMIT = "f" * 40


@pytest.fixture
def table(encode) -> datasets.Dataset:
    cells = [{"bytes": encode(colour), "path": None} for colour in ("red", "blue")]
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    return datasets.Dataset.from_dict({"image": cells, "text": ["one", "two"]}, features=features)


@pytest.fixture
def asked(table: datasets.Dataset, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the hub was asked for; it answers with a table of two rows."""
    asked = {}

    def dataset_info(_, identifier: str, revision: str | None) -> SimpleNamespace:
        asked["resolved"] = (identifier, revision)
        return SimpleNamespace(sha=COMMIT)

    def load_dataset(identifier: str, **options: object) -> object:
        asked["loaded"] = (identifier, options)
        return table.to_iterable_dataset() if options["streaming"] else table

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(datasets, "get_dataset_config_names", lambda *_, **__: ["default"])
    return asked


@pytest.fixture
def read(open_dataset, tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def read(revision: str | None = None, **settings: object) -> Source:
        return open_dataset("owner/name", revision=revision, **settings)

    return read


def test_only_owner_and_name_are_a_hub_id():
    assert is_hub_id("lambdalabs/naruto-blip-captions")
    for other in ("naruto", "./name", "../name", "~/name", "/data/name", "a/b/c", "a/b/", "C:\\a"):
        assert not is_hub_id(other)


def test_a_branch_is_pinned_to_its_commit_before_it_is_read(read, asked: dict[str, object]):
    source = read("main", config="large", split="train[:2]")
    assert asked["resolved"] == ("owner/name", "main")
    options = {"name": "large", "split": "train[:2]", "revision": COMMIT, "streaming": False}
    assert asked["loaded"] == ("owner/name", options)
    assert source.revision == COMMIT
    assert [picture.captions for picture in source.pictures] == [("one",), ("two",)]
    assert source.pictures[1].load().getpixel((0, 0)) == (0, 0, 255)


def test_a_full_commit_needs_no_answer_from_the_hub(read, asked: dict[str, object]):
    assert read(OTHER_COMMIT).revision == OTHER_COMMIT
    assert "resolved" not in asked


@pytest.mark.parametrize("streaming", [False, True])
def test_pictures_stay_encoded(read, asked: dict[str, object], encode, streaming: bool):
    assert read(streaming=streaming).pictures[0].read() == encode("red")


def test_a_stream_is_pinned_and_sliced_too(read, asked: dict[str, object]):
    source = read(streaming=True, split="train[1:]")
    options = {"name": None, "split": "train", "revision": COMMIT, "streaming": True}
    assert asked["loaded"] == ("owner/name", options)
    assert source.revision == COMMIT
    assert [picture.captions for picture in source.pictures] == [("two",)]


@pytest.mark.usefixtures("asked")
def test_another_cached_commit_is_refused(read, table: datasets.Dataset):
    url = "hf://datasets/owner/name@{}/data/train-00000-of-00001.parquet"
    table.info.download_checksums = {url.format(COMMIT): {}}
    assert len(read(COMMIT).pictures) == 2
    table.info.download_checksums = {url.format(OTHER_COMMIT): {}}
    with pytest.raises(DatasetError, match=rf"another commit than {COMMIT} is cached"):
        read(COMMIT)


def fail(*_: object, **__: object) -> None:
    raise ConnectionError("no route\nto host")


@pytest.mark.parametrize(
    ("owner", "call"), [(huggingface_hub.HfApi, "dataset_info"), (datasets, "load_dataset")]
)
@pytest.mark.usefixtures("asked")
def test_a_hub_that_does_not_answer_is_named_with_a_remedy(
    read, monkeypatch: pytest.MonkeyPatch, owner: object, call: str
):
    monkeypatch.setattr(owner, call, fail)
    with pytest.raises(DatasetError, match=r"owner/name: .*\(no route to host\): check the name"):
        read()


@pytest.mark.usefixtures("asked")
def test_several_configurations_are_listed(read, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(datasets, "get_dataset_config_names", lambda *_, **__: ["small", "large"])
    assert len(read().pictures) == 2  # One of them is the default.
    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DatasetError, match=r"several .*choose one of small, large with --set"):
        read()
    with pytest.raises(DatasetError, match=r"no such configuration as 'tiny': choose one of small"):
        read(config="tiny")
    with pytest.raises(DatasetError, match="no route to host"):
        read(config="small")
