"""Find a base model: a diffusers folder, a hub id, or `mini`; and check that it is an SDXL."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rasengan_xl.errors import ModelError
from rasengan_xl.file_digests import file_digest
from rasengan_xl.mini import MODEL_FOLDER
from rasengan_xl.runs.records import ModelFacts

TOKENIZERS = ("tokenizer", "tokenizer_2")
TEXT_ENCODERS = ("text_encoder", "text_encoder_2")
WEIGHTED_PARTS = (*TEXT_ENCODERS, "vae", "unet")
HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
LATENT_CHANNELS = 4
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    """A base model on disk, whole and of the right kind."""

    path: Path
    name: str
    """What the user called it."""
    revision: str | None = None
    """Commit of a hub model."""

    def weights_variant(self, part: str) -> str | None:
        """Return "fp16" if a part's weights lie there in half precision only, else None."""
        files = [file.name for file in (self.path / part).glob("*.safetensors")]
        return "fp16" if files and all(".fp16" in name for name in files) else None

    def facts(self) -> ModelFacts:
        """Describe the model so that another can be told from it."""
        parts = (*TOKENIZERS, *WEIGHTED_PARTS, "scheduler")
        digests = {part: self.identity((part,)) for part in parts}
        return ModelFacts(name=self.name, revision=self.revision, parts=digests)

    def identity(self, parts: Sequence[str]) -> str:
        """Return a hash that changes when a file of the named parts does.

        Args:
            parts: Folders of the model, such as `vae`.
        """
        digest = hashlib.sha256()
        for part in parts:
            for file in sorted(f for f in (self.path / part).iterdir() if f.is_file()):
                digest.update(f"{part}/{file.name} {file_digest(file)} ".encode())
        return digest.hexdigest()


def find_model(base_model: str, revision: str | None = None) -> ModelFolder:
    """Find a base model, downloading a hub model's needed files, and check every part.

    Args:
        base_model: `mini`, a diffusers folder, or a hub id.
        revision: Commit, tag or branch of a hub model.

    Raises:
        ModelError: It is missing, incomplete, or not an SDXL.
    """
    if base_model == "mini":
        model = ModelFolder(path=MODEL_FOLDER, name="mini")
    elif Path(base_model).is_dir():
        model = ModelFolder(path=Path(base_model), name=base_model)
    elif HUB_ID.match(base_model) and not Path(base_model).exists():
        model = _find_downloaded(base_model, revision) or _download(base_model, revision)
    else:
        raise ModelError(
            f"base_model = {base_model!r}: no such folder; give a diffusers folder, "
            "a hub id such as owner/name, or mini"
        )
    _check(model)
    return model


def find_model_at_hand(base_model: str, revision: str | None = None) -> ModelFolder | None:
    """Find a base model as `find_model` does, but without asking the network.

    Returns:
        The model; None if it is one of the hub's that does not lie here at this full commit.

    Raises:
        ModelError: It is a folder, and missing, incomplete, or not an SDXL.
    """
    if base_model != "mini" and HUB_ID.match(base_model) and not Path(base_model).exists():
        return _find_downloaded(base_model, revision)
    return find_model(base_model, revision)


def read_model_index(model: ModelFolder) -> dict[str, Any]:
    """Read which classes a model is made of."""
    return _read_json(model, "model_index.json")


def read_scheduler_config(model: ModelFolder) -> dict[str, Any]:
    """Read how a model's scheduler is set."""
    return _read_json(model, "scheduler/scheduler_config.json")


def choose_files(names: Sequence[str]) -> list[str]:
    """Choose what to download of a hub model: no weights twice, half precision preferred.

    The VAE alone is taken in full precision if it can be: it encodes in float32.
    """
    chosen = ["model_index.json", *(n for n in names if n.startswith("scheduler/"))]
    for part in (*TOKENIZERS, *WEIGHTED_PARTS):
        inside = [n for n in names if n.startswith(f"{part}/")]
        weights = [n for n in inside if n.endswith(".safetensors") and "/openvino" not in n]
        half = [n for n in weights if ".fp16" in n]
        full = [n for n in weights if n not in half and "non_ema" not in n]
        chosen += [n for n in inside if n.endswith((".json", ".txt")) and "openvino" not in n]
        chosen += (full or half) if part == "vae" else (half or full)
    return chosen


def _find_downloaded(base_model: str, commit: str | None) -> ModelFolder | None:
    """Find a hub model that lies here whole, without asking the network; by a full commit only."""
    if commit is None or not _COMMIT.fullmatch(commit):
        return None
    import huggingface_hub  # noqa: PLC0415 - slow to import, and not needed for a folder

    try:
        path = huggingface_hub.snapshot_download(base_model, revision=commit, local_files_only=True)
        model = ModelFolder(path=Path(path), name=base_model, revision=commit)
        _check(model)
    except (OSError, ValueError, ModelError):  # not here, or only in part
        return None
    return model


def _download(base_model: str, revision: str | None) -> ModelFolder:
    import huggingface_hub  # noqa: PLC0415 - slow to import, and not needed for a folder

    try:
        facts = huggingface_hub.HfApi().model_info(base_model, revision=revision)
        names = [file.rfilename for file in facts.siblings or []]
        path = huggingface_hub.snapshot_download(
            base_model, revision=facts.sha, allow_patterns=choose_files(names)
        )
    # The hub's client has changed its transport twice; the faults share no other base.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"base_model = {base_model!r}: cannot be had from the hub ({reason}); check the name, "
            "the revision and the network, or give a diffusers folder"
        ) from error
    return ModelFolder(path=Path(path), name=base_model, revision=facts.sha)


def _check(model: ModelFolder) -> None:
    index = read_model_index(model)
    kind = str(index.get("_class_name", "?"))
    if not kind.startswith("StableDiffusionXL"):
        raise ModelError(f"{model.path}: is a {kind}, not an SDXL; give an SDXL base model")
    for part in (*TOKENIZERS, "scheduler"):
        if not (model.path / part).is_dir():
            raise ModelError(f"{model.path}: {part}/ is missing; copy the whole diffusers folder")
    for part in WEIGHTED_PARTS:
        _read_json(model, f"{part}/config.json")
        if not list((model.path / part).glob("*.safetensors")):
            raise ModelError(
                f"{model.path}: {part}/ holds no .safetensors weights; copy the whole folder, "
                "or convert it with save_pretrained(safe_serialization=True)"
            )
    unet = _read_json(model, "unet/config.json")
    embedding = unet.get("addition_embed_type")
    if embedding != "text_time":
        raise ModelError(
            f"{model.path}: unet/config.json has addition_embed_type = {embedding!r}, SDXL has "
            "'text_time'; give an SDXL base model"
        )
    if unet.get("in_channels") != LATENT_CHANNELS:
        raise ModelError(
            f"{model.path}: its UNet takes {unet.get('in_channels')} channels, an inpainting model "
            f"perhaps; give an SDXL base model ({LATENT_CHANNELS} channels)"
        )


def _read_json(model: ModelFolder, name: str) -> dict[str, Any]:
    file = model.path / name
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            f"{model.path}: {name} is missing; give a whole diffusers folder"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read ({error}); fetch the model again") from error
