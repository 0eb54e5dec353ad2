import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis.configuration import set_hypothesis_home_dir
from PIL import Image

# Hypothesis keeps what it finds out about the sources even without a database of examples.
set_hypothesis_home_dir(Path(tempfile.gettempdir(), "hypothesis"))

Encode = Callable[..., bytes]


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
