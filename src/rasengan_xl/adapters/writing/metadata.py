"""The texts in an export's header: only what is true and known.

`ss_*` are those of github.com/kohya-ss/sd-scripts, which A1111 and ComfyUI show and sort by;
`modelspec.*` those of github.com/Stability-AI/ModelSpec; `rasengan.*` our own.
"""

import json
from collections.abc import Mapping
from typing import Any

from rasengan_xl.adapters.consumers.targets import Target
from rasengan_xl.adapters.decomposition import DECOMPOSITIONS_KEY, write_decompositions
from rasengan_xl.adapters.files import FROM_PURE_NOISE
from rasengan_xl.adapters.writing.source import Source
from rasengan_xl.adapters.writing.tensors import Described
from rasengan_xl.config.base_precisions import STORAGES
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.sdxl.model_folder import read_scheduler_config
from rasengan_xl.tensor_stream import HASH_KEY

_KEPT = ("ss_", "modelspec.", "rasengan.")
"""Entries of a file that are true of what is made from it, too."""
_MADE_ANEW = (
    "ss_network_module",
    "ss_network_dim",
    "ss_network_alpha",
    "ss_network_args",
    "rasengan.target",
    DECOMPOSITIONS_KEY,
)
"""Entries that are true of a file's own form only."""
_MERGED_FROM = "modelspec.merged_from"
_ARCHITECTURE = "stable-diffusion-xl-v1-base"


def adapter_texts(
    source: Source, target: Target, described: Mapping[str, Described], strength: float
) -> dict[str, str]:
    """Make the texts for an adapter.

    Args:
        source: What it is made from.
        target: What it is made for.
        described: What its layers hold.
        strength: Baked in.
    """
    texts = {
        **_kept_texts(source),
        **_shape_texts(target, described),
        "modelspec.architecture": f"{_ARCHITECTURE}/lora",
        HASH_KEY: "",  # filled in when all tensors are written
    }
    if source.from_pure_noise:
        texts |= FROM_PURE_NOISE
    if strength != 1:
        texts["rasengan.strength"] = f"{strength:g}"
    if target.consumer != "diffusers" and any(layer.decomposed for layer in described.values()):
        texts["rasengan.target"] = target.name
        texts[DECOMPOSITIONS_KEY] = write_decompositions(target.decompositions)
    return texts


def merged_texts(source: Source, strength: float) -> dict[str, str]:
    """Make the texts for a base model with the adapter in it."""
    kept = {name: text for name, text in _kept_texts(source).items() if not _is_of_lora(name)}
    # What several adapters were combined to is told with their weights.
    adapter = kept[_MERGED_FROM] if source.parts else source.title
    return {
        **kept,
        "modelspec.architecture": _ARCHITECTURE,
        _MERGED_FROM: f"{source.model.name}, {adapter} at strength {strength:g}",
        HASH_KEY: "",
    }


def _is_of_lora(name: str) -> bool:
    return name.startswith("ss_")


def _kept_texts(source: Source) -> dict[str, str]:
    """Collect what a run tells, and what a file already says."""
    known = source.subject.settings
    told = {} if known is None else _training_texts(source, known)
    kept = {name: text for name, text in source.contents.header.items() if name.startswith(_KEPT)}
    for name in _MADE_ANEW:
        kept.pop(name, None)
    return {**_general_texts(source), **told, **kept}


def _general_texts(source: Source) -> dict[str, str]:
    texts = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.implementation": "https://github.com/huggingface/diffusers",
        "modelspec.title": source.title,
        "modelspec.date": source.date,
        "ss_base_model_version": "sdxl_base_v1-0",
        "ss_v2": "False",
        "ss_output_name": source.title,
    }
    if source.subject.model is not None:
        scheduler = read_scheduler_config(source.subject.model)
        velocity = scheduler.get("prediction_type") == "v_prediction"
        texts["modelspec.prediction_type"] = "v" if velocity else "epsilon"
    return texts


def _training_texts(source: Source, settings: RunSettings) -> dict[str, str]:
    """Tell what a run was made with; what is absent is not said."""
    training, side = settings.training, settings.dataset.resolution
    trigger = settings.caption.trigger
    told: dict[str, Any] = {
        "ss_sd_model_name": settings.base_model,
        "ss_learning_rate": training.learning_rate,
        "ss_unet_lr": training.learning_rate,
        "ss_max_train_steps": training.steps,
        "ss_steps": source.steps,
        "ss_seed": settings.seed,
        "ss_batch_size_per_device": training.batch_size,
        "ss_gradient_accumulation_steps": training.accumulation,
        "ss_lr_scheduler": training.schedule,
        "ss_lr_warmup_steps": training.warmup_steps,
        "ss_optimizer": training.optimizer,
        "ss_max_grad_norm": training.max_gradient_norm,
        "ss_min_snr_gamma": settings.objective.min_snr_gamma,
        "ss_noise_offset": settings.objective.noise_offset or None,
        "ss_caption_dropout_rate": settings.caption.dropout,
        "ss_network_dropout": settings.adapter.dropout or None,
        "ss_resolution": f"({side}, {side})",
        "ss_num_train_images": source.dataset.train if source.dataset else None,
        "ss_zero_terminal_snr": settings.objective.zero_terminal_snr,
        "modelspec.resolution": f"{side}x{side}",
        "modelspec.trigger_phrase": trigger or None,
        "rasengan.recipe_sha256": source.recipe_sha256,
        "rasengan.method": _name_method(settings),
    }
    return {name: str(value) for name, value in told.items() if value is not None}


def _name_method(settings: RunSettings) -> str:
    adapter = settings.adapter
    in_4_bits = STORAGES[adapter.base_precision].is_qlora
    return ("Q" if in_4_bits else "") + ("DoRA" if adapter.decompose else "LoRA")


def _shape_texts(target: Target, described: Mapping[str, Described]) -> dict[str, str]:
    """Tell module, rank and alpha as kohya's scripts do: "Dynamic" where layers differ."""
    if target.consumer == "diffusers":  # has its own entry for them
        return {}
    ranks = {layer.rank for layer in described.values()}
    alphas = {layer.unstabilized_alpha for layer in described.values()}
    texts = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(*ranks) if len(ranks) == 1 else "Dynamic",
        "ss_network_alpha": f"{next(iter(alphas)):.9g}" if len(alphas) == 1 else "Dynamic",
    }
    if target.name.startswith("lycoris"):
        texts["ss_network_module"] = "lycoris.kohya"
        decomposed = any(layer.decomposed for layer in described.values())
        arguments = {"algo": "lora", "dora_wd": decomposed, "wd_on_output": decomposed}
        texts["ss_network_args"] = json.dumps(arguments)
    return texts
