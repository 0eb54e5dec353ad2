from types import SimpleNamespace

import datasets
import huggingface_hub
import pytest

from rasengan_xl.dataset.hub import is_hub_id, read_hub
from rasengan_xl.dataset.pictures import Source
from rasengan_xl.errors import DatasetError

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

    def load_dataset(identifier: str, **options: str) -> datasets.Dataset:
        asked["loaded"] = (identifier, options)
        return table

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def read(revision: str | None = None) -> Source:
    return read_hub(
        "owner/name", revision=revision, split="train", image_column=None, caption_column=None
    )


def test_only_owner_and_name_are_a_hub_id():
    assert is_hub_id("lambdalabs/naruto-blip-captions")
    for other in ("naruto", "./name", "../name", "~/name", "/data/name", "a/b/c", "a/b/", "C:\\a"):
        assert not is_hub_id(other)


def test_a_branch_is_pinned_to_its_commit_before_it_is_read(asked: dict[str, object]):
    source = read("main")
    assert asked["resolved"] == ("owner/name", "main")
    assert asked["loaded"] == ("owner/name", {"split": "train", "revision": COMMIT})
    assert source.revision == COMMIT
    assert [picture.caption for picture in source.pictures] == ["one", "two"]
    assert source.pictures[1].load().getpixel((0, 0)) == (0, 0, 255)


def test_a_full_commit_needs_no_answer_from_the_hub(asked: dict[str, object]):
    assert read(OTHER_COMMIT).revision == OTHER_COMMIT
    assert "resolved" not in asked


def test_pictures_stay_encoded(asked: dict[str, object], encode):
    assert read().pictures[0].read() == encode("red")


@pytest.mark.usefixtures("asked")
def test_another_cached_commit_is_refused(table: datasets.Dataset):
    url = "hf://datasets/owner/name@{}/data/train-00000-of-00001.parquet"
    table.info.download_checksums = {url.format(COMMIT): {}}
    assert len(read(COMMIT).pictures) == 2
    table.info.download_checksums = {url.format(OTHER_COMMIT): {}}
    with pytest.raises(DatasetError, match=rf"another commit than {COMMIT} is cached"):
        read(COMMIT)


@pytest.mark.parametrize(
    ("owner", "call"), [(huggingface_hub.HfApi, "dataset_info"), (datasets, "load_dataset")]
)
@pytest.mark.usefixtures("asked")
def test_a_hub_that_does_not_answer_is_named_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, owner: object, call: str
):
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(owner, call, fail)
    with pytest.raises(DatasetError, match=r"owner/name: .*\(no route to host\): check the name"):
        read()
