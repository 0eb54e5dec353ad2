from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from rasengan_xl.config.dataset_settings import DatasetSettings
from rasengan_xl.sources.opening import open_source
from rasengan_xl.sources.pictures import Source

from ..exhaust import exhaust

Encode = Callable[..., bytes]
Open = Callable[..., Source]


@pytest.fixture(scope="session")
def encode() -> Encode:
    """Encode a plain picture of a colour: `encode("red", size=(8, 6), file_format="PNG")`."""

    def encode(colour: str, size: tuple[int, int] = (8, 6), file_format: str = "PNG") -> bytes:
        file = BytesIO()
        Image.new("RGB", size, colour).save(file, file_format)
        return file.getvalue()

    return encode


@pytest.fixture
def hugging_face_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch) -> Path:
    """Keep what `datasets` writes out of the user's cache."""
    import datasets

    folder = tmp_path_factory.mktemp("hugging-face")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    return folder


@pytest.fixture(scope="session")
def open_dataset() -> Open:
    """Open a dataset to its end: `open_dataset(path, "folder_name", split="test")`."""

    def open_dataset(source: object, origin: str = "files", **settings: object) -> Source:
        return exhaust(open_source(DatasetSettings(source=str(source), **settings), origin))

    return open_dataset
