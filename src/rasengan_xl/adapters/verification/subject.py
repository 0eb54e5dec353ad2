"""What is verified: an adapter's file, the run it is from, and the base it is put on."""

from dataclasses import dataclass
from pathlib import Path

from rasengan_xl.adapters.files import find_adapter
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.errors import AdapterError, ModelError
from rasengan_xl.runs.finding import folder_around
from rasengan_xl.runs.folder import RunFolder, read_record
from rasengan_xl.runs.records import ModelFacts
from rasengan_xl.runs.verification import Verification, read_verification
from rasengan_xl.sdxl.layers import ModelLayers, list_layers, list_sdxl_layers
from rasengan_xl.sdxl.model_folder import ModelFolder, find_model, find_model_at_hand


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """An adapter, with all that is known of it and at hand."""

    file: Path
    layers: ModelLayers
    """Of the base, or of SDXL itself if there is none."""
    model: ModelFolder | None = None
    """The base it is checked on."""
    without_base: str = ""
    """Why there is none, and what to do."""
    settings: RunSettings | None = None
    """Of the run that the adapter is from."""
    trained_on: ModelFacts | None = None
    """What that run began from."""
    verified: Verification | None = None
    """What was found of this adapter when it had just been trained."""


def find_subject(path: Path, base: str | None) -> Subject:
    """Find an adapter, what tells of it, and its base.

    Args:
        path: A run's folder or an adapter's file.
        base: What to check it on; None: what it was trained on, if that is known and here.

    Raises:
        AdapterError: There is no adapter there.
        ModelError: The base that is named cannot be had.
    """
    _refuse_checkpoint(path)
    file = find_adapter(path)
    folder = folder_around(file)
    begun = folder.read_settings() if folder.is_begun else None
    # Beside a run's own adapter may lie others, made from it: they share its base alone.
    is_own = file.resolve() in {
        own.resolve() for own in (folder.adapter_file, folder.best_adapter_file)
    }
    # One that was given was only measured there.
    is_trained = begun is not None and not begun.is_given
    knows_base = is_trained and folder.model_file.exists()
    trained_on = read_record(ModelFacts, folder.model_file) if knows_base else None
    if base is not None:
        model, reason = find_model(base), ""
    elif begun is not None:
        model, reason = _find_own_base(begun, trained_on)
    else:
        model, reason = None, "no base is known; name it with --base"
    return Subject(
        file=file,
        layers=list_sdxl_layers() if model is None else list_layers(model),
        model=model,
        without_base=reason,
        settings=begun if is_own and is_trained else None,
        trained_on=trained_on,
        verified=_read_verification(file, folder),
    )


def _refuse_checkpoint(path: Path) -> None:
    folder = RunFolder(path.resolve().parent.parent)
    if path.resolve() in folder.checkpoints().values():
        raise AdapterError(
            f"{path}: is a checkpoint, with all that training needs to go on; name the run's "
            f"folder, {folder.path.name}, to verify the adapter that it gave out last"
        )


def _find_own_base(
    settings: RunSettings, trained_on: ModelFacts | None
) -> tuple[ModelFolder | None, str]:
    revision = (trained_on and trained_on.revision) or settings.base_revision
    try:
        model = find_model_at_hand(settings.base_model, revision)
    except ModelError as error:
        return None, f"the run's own base is not there ({error}); name it with --base"
    if model is None:
        name = settings.base_model
        return None, f"{name} is not downloaded; do that with --base {name}"
    return model, ""


def _read_verification(file: Path, folder: RunFolder) -> Verification | None:
    """Read what the run wrote down of its last adapter; of the best one it wrote nothing."""
    is_last = file.resolve() == folder.adapter_file.resolve()
    return read_verification(folder) if is_last else None
