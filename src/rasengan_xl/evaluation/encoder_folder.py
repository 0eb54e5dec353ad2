"""Find the files of a picture encoder: in a folder, or on the hub; safetensors only."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rasengan_xl.errors import ModelError
from rasengan_xl.file_digests import file_digest
from rasengan_xl.sdxl.model_folder import HUB_ID

_TOKENIZER = "vocab.json|merges.txt|tokenizer.json|tokenizer_config.json|special_tokens_map.json"
_NEEDED = re.compile(
    rf"config\.json|preprocessor_config\.json|model[\w.-]*\.(safetensors|index\.json)|{_TOKENIZER}"
)
PINNED = {
    "openai/clip-vit-large-patch14": "32bd64288804d66eefd0ccbe215aa642df71cc41",
    "facebook/dinov2-base": "f9e44c814b77203eaa57a6bdbbd535f21ede1415",
}
"""Commit of a hub model that is taken where none is named, so that figures stay comparable."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderFolder:
    """An encoder on disk."""

    path: Path

    @property
    def identity(self) -> str:
        """Return a hash that changes when a file that matters does."""
        digest = hashlib.sha256()
        for file in sorted(self.path.iterdir()):
            if _NEEDED.fullmatch(file.name):
                digest.update(f"{file.name} {file_digest(file)} ".encode())
        return digest.hexdigest()

    def read_json(self, name: str) -> dict[str, Any]:
        """Read one of its files.

        Raises:
            ModelError: It is missing or damaged.
        """
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(
                f"{self.path}: {name} cannot be read ({_first_line(error)}); give the whole folder "
                "of a transformers model"
            ) from error


def find_encoder_folder(name: str, revision: str | None) -> EncoderFolder:
    """Find an encoder, downloading what is needed of a hub model.

    Args:
        name: A folder or a hub id.
        revision: Commit, tag or branch of a hub model, or else the one in `PINNED`; a model that
            lies here by its full commit is found without network.

    Raises:
        ModelError: It is missing or has no weights as safetensors.
    """
    if Path(name).is_dir():
        folder = EncoderFolder(path=Path(name))
    elif HUB_ID.match(name) and not Path(name).exists():
        revision = revision or PINNED.get(name)
        folder = _find_downloaded(name, revision) or _download(name, revision)
    else:
        raise ModelError(f"encoder {name!r}: no such folder; give a folder or a hub id")
    if not _has_weights(folder.path):
        raise ModelError(
            f"encoder {name!r}: holds no model.safetensors, and pickled weights are not read; give "
            "another model, or convert it with save_pretrained"
        )
    return folder


def choose_encoder_files(names: Sequence[str]) -> list[str]:
    """Choose what to download of an encoder: no weights twice, nothing pickled."""
    return [name for name in names if _NEEDED.fullmatch(name)]


def _find_downloaded(name: str, revision: str | None) -> EncoderFolder | None:
    if revision is None or not _COMMIT.fullmatch(revision):
        return None
    import huggingface_hub  # noqa: PLC0415 - slow to import, and not needed for a folder

    try:
        path = huggingface_hub.snapshot_download(name, revision=revision, local_files_only=True)
    except (OSError, ValueError):  # not here
        return None
    return EncoderFolder(path=Path(path)) if _has_weights(Path(path)) else None


def _download(name: str, revision: str | None) -> EncoderFolder:
    import huggingface_hub  # noqa: PLC0415 - slow to import, and not needed for a folder

    try:
        facts = huggingface_hub.HfApi().model_info(name, revision=revision)
        files = choose_encoder_files([file.rfilename for file in facts.siblings or []])
        path = huggingface_hub.snapshot_download(name, revision=facts.sha, allow_patterns=files)
    # The hub's client has changed its transport twice; the faults share no other base.
    except Exception as error:
        raise ModelError(
            f"encoder {name!r}: cannot be had from the hub ({_first_line(error)}); check the name, "
            "the revision and the network, or give a folder"
        ) from error
    return EncoderFolder(path=Path(path))


def _has_weights(path: Path) -> bool:
    return any(path.glob("model*.safetensors"))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
