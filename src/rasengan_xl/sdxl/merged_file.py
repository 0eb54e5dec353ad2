"""Write a base model with a change merged into it as a single-file checkpoint."""

from collections.abc import Generator, Mapping
from contextlib import closing
from pathlib import Path

import torch
from torch import Tensor

from rasengan_xl.errors import ModelError, OutputError
from rasengan_xl.runs.records import StageProgress
from rasengan_xl.sdxl.merged_weights import (
    MERGE,
    Change,
    MergedModel,
    MergedWeights,
    refuse_existing,
)
from rasengan_xl.sdxl.model_folder import TEXT_ENCODERS, ModelFolder, read_scheduler_config
from rasengan_xl.sdxl.single_file_names import (
    FIRST_ENCODER,
    POSITIONS,
    SingleFileTensor,
    single_file_tensors,
)
from rasengan_xl.sdxl.stored_weights import StoredWeights
from rasengan_xl.tensor_stream import PlannedTensor, stream_tensors

SUFFIX = ".safetensors"
PREDICTS_VELOCITY, BEGINS_FROM_PURE_NOISE = "v_pred", "ztsnr"
"""Empty tensors by which ComfyUI, A1111 and Forge tell what a checkpoint's name does not."""

_EMBEDDING = "text_model.embeddings.position_embedding.weight"


def write_single_file(
    model: ModelFolder,
    change: Change,
    file: Path,
    dtype: torch.dtype,
    metadata: Mapping[str, str],
    *,
    zero_terminal_snr: bool = False,
) -> Generator[StageProgress, None, MergedModel]:
    """Write a merged model as one file, a tensor at a time.

    Args:
        model: The base.
        change: What to merge.
        file: Where to, a `.safetensors`; closing the generator early leaves nothing there.
        dtype: Precision of UNet and text encoders; the VAE keeps its own.
        metadata: Texts for the header, such as `modelspec.title`. If it has a key
            `modelspec.hash_sha256`, the hash is filled in.
        zero_terminal_snr: The adapter was trained to begin from pure noise.

    Raises:
        AdapterError: The change does not fit the base, or is not finite.
        ModelError: The base cannot be read, or has tensors that a single file has no place for.
        OutputError: Something is there already, a weight is beyond `dtype`, or it cannot be
            written.
    """
    refuse_existing(file)
    if file.suffix != SUFFIX:
        raise OutputError(f"{file}: a single-file checkpoint is named *{SUFFIX}; name it so")
    weights = MergedWeights(model, change, dtype)
    arranged = {
        plan.name: plan for plan in single_file_tensors(weights.stored.names(), weights.unet)
    }
    constants = _constants(model, weights.stored, zero_terminal_snr=zero_terminal_snr)

    def make(name: str) -> Tensor:
        if name in constants:
            return constants[name]
        plan = arranged[name]
        return plan.arrange([weights.read(source) for source in plan.sources])

    planned = [_plan(plan, weights) for plan in arranged.values()]
    planned += [
        PlannedTensor(name=name, shape=tuple(tensor.shape), dtype=tensor.dtype)
        for name, tensor in constants.items()
    ]
    total = len(planned)
    yield StageProgress(stage=MERGE, done=0, total=total, note=_note_equal_widths(weights.stored))
    with closing(stream_tensors(file, planned, make, metadata)) as written:
        for done, _ in enumerate(written, start=1):
            yield StageProgress(stage=MERGE, done=done, total=total)
    return MergedModel(path=file, tensors=total, changed=tuple(weights.changed))


def _plan(plan: SingleFileTensor, weights: MergedWeights) -> PlannedTensor:
    described = [weights.stored.describe(source) for source in plan.sources]
    shape = plan.arrange([torch.empty(source.shape, device="meta") for source in described]).shape
    return PlannedTensor(name=plan.name, shape=tuple(shape), dtype=weights.dtype(plan.sources[0]))


def _note_equal_widths(stored: StoredWeights) -> str:
    """Warn of what no SDXL has, but the smallest models for trials do."""
    widths = {stored.describe(f"{encoder}.{_EMBEDDING}").shape[1] for encoder in TEXT_ENCODERS}
    if len(widths) > 1:
        return ""
    return (
        f"both text encoders are {widths.pop()} wide, and diffusers' from_single_file tells them "
        "apart by their widths: give it text_encoder_2 as an argument, or export to a folder"
    )


def _constants(
    model: ModelFolder, stored: StoredWeights, *, zero_terminal_snr: bool
) -> dict[str, Tensor]:
    """Make what single files hold and diffusers folders say elsewhere or need not say."""
    constants: dict[str, Tensor] = {}
    scheduler = read_scheduler_config(model)
    if scheduler.get("prediction_type") == "v_prediction":
        constants[PREDICTS_VELOCITY] = torch.empty(0)
    if zero_terminal_snr or scheduler.get("rescale_betas_zero_snr"):
        if PREDICTS_VELOCITY not in constants:
            raise ModelError(
                f"{model.path}: begins from pure noise and predicts epsilon, which no reader of "
                "single files can draw with; export to a diffusers folder"
            )
        constants[BEGINS_FROM_PURE_NOISE] = torch.empty(0)
    if f"text_encoder.{POSITIONS}" not in stored:
        tokens = stored.describe(f"text_encoder.{_EMBEDDING}").shape[0]
        constants[f"{FIRST_ENCODER}{POSITIONS}"] = torch.arange(tokens)[None]
    return constants
