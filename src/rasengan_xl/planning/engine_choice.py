"""Settle what of the engine a run uses, where its settings leave it open."""

from dataclasses import replace
from typing import Literal

from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from rasengan_xl.adapters.attach import find_targets, fits_fused, refuse_convolutions
from rasengan_xl.config.base_precisions import STORAGES
from rasengan_xl.config.engine_settings import MemoryMode, Switch
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.engine.integer_choice import are_integers_faster
from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.engine.step_graph import why_no_graph
from rasengan_xl.errors import RecipeError
from rasengan_xl.sdxl.compute import Compute

_PIXELS_PER_TOKEN = 32
"""Of a side, in SDXL's widest layers: 8 by the VAE, 4 by the UNet."""


def settle_engine(
    settings: RunSettings, unet: UNet2DConditionModel, compute: Compute
) -> EngineOptions:
    """Return how a run computes.

    Args:
        settings: What was asked for.
        unet: As it was loaded, or without values.
        compute: Where, and in which precision.

    Raises:
        RasenganError: Something asked for cannot be had.
    """
    asked = settings.engine
    targets = find_targets(unet, settings.adapter)
    implementation = asked.implementation
    if implementation == "auto":
        implementation = "fused" if fits_fused(targets) else "peft"
    if implementation == "peft":
        return _plain(settings)
    refuse_convolutions(targets)
    _refuse_what_has_no_effect(settings, compute)
    on_cuda = compute.device.type == "cuda"
    options = EngineOptions(
        implementation="fused",
        memory=_settle_memory(settings),
        group_projections=asked.group_projections,
        batch_text_projections=asked.batch_text_projections,
        lean_feed_forward=asked.lean_feed_forward,
        recompute_norms=asked.recompute_norms,
        frozen_convolutions=asked.frozen_convolutions,
        fused_group_norm=asked.fused_group_norm,
        channels_last=_settle(asked.channels_last, auto=on_cuda),
        attention=asked.attention if on_cuda else "default",
        compile=asked.compile,
        cache_text_kv=asked.cache_text_kv,
        int8_compute=_settle_integers(settings, unet, compute),
    )
    if options.cache_text_kv:
        _refuse_without_base_weights(settings)
    obstacle = why_no_graph(compute.device, options, settings.adapter.dropout)
    if asked.cuda_graph == "on" and obstacle:
        raise RecipeError(f"engine.cuda_graph = 'on': {obstacle}; use 'auto' or 'off'")
    return replace(options, cuda_graph=_settle(asked.cuda_graph, auto=obstacle is None))


def _plain(settings: RunSettings) -> EngineOptions:
    """Return what there is with PEFT: nothing but gradient checkpointing.

    Raises:
        RecipeError: More was asked for.
    """
    asked = settings.engine
    memory: Literal["keep-all", "recompute-all"] = "keep-all"
    if asked.memory == "recompute-feed-forward":
        raise RecipeError(_not_with_peft("memory", asked.memory))
    if asked.attention not in {"auto", "default"}:
        raise RecipeError(_not_with_peft("attention", asked.attention))
    if asked.memory == "recompute-all":
        memory = "recompute-all"
    for name in ("channels_last", "cuda_graph", "int8_compute"):
        if getattr(asked, name) == "on":
            raise RecipeError(_not_with_peft(name, "on"))
    for name in ("compile", "cache_text_kv"):
        if getattr(asked, name):
            raise RecipeError(_not_with_peft(name, "true"))
    return EngineOptions(
        implementation="peft",
        memory=memory,
        group_projections=False,
        batch_text_projections=False,
        lean_feed_forward=False,
        recompute_norms=False,
        frozen_convolutions=False,
        fused_group_norm=False,
    )


def _refuse_without_base_weights(settings: RunSettings) -> None:
    """Refuse to keep keys and values of captions where the weights that make them are needed.

    Raises:
        RecipeError: They are.
    """
    told = "engine.cache_text_kv = true: "
    if settings.adapter.decompose:
        raise RecipeError(
            f"{told}DoRA (adapter.decompose = true) takes the norm of the weights that it would do "
            "without; leave one of the two out"
        )
    if not settings.engine.batch_text_projections:
        raise RecipeError(
            f"{told}needs engine.batch_text_projections = true; leave one of the two out"
        )


def _not_with_peft(name: str, value: str) -> str:
    return (
        f"engine.{name} = {value!r}: is of our own layers, and this run uses PEFT's (engine."
        "implementation, or a target that is a convolution); leave it out"
    )


def _refuse_what_has_no_effect(settings: RunSettings, compute: Compute) -> None:
    """Refuse what would be ignored, or would not be as the run's record says.

    Raises:
        RecipeError: Something was asked for in vain.
    """
    asked, where = settings.engine, compute.device.type
    if asked.int8_compute == "on" and not _has_integers(settings):
        precision = settings.adapter.base_precision
        raise RecipeError(
            f"engine.int8_compute = 'on': adapter.base_precision = {precision!r} has no linear "
            "layers in int8 to multiply; set adapter.base_precision to 'int8', or use 'auto'"
        )
    if where != "cuda" and asked.attention not in {"auto", "default"}:
        raise RecipeError(
            f"engine.attention = {asked.attention!r}: is of a GPU, and this run is on a {where}; "
            "use 'auto' or 'default'"
        )
    if asked.memory == "recompute-feed-forward" and not asked.lean_feed_forward:
        raise RecipeError(
            "engine.memory = 'recompute-feed-forward': keeps less of a feed-forward layer than "
            "engine.lean_feed_forward = false; set that to true, or use another mode"
        )


def _has_integers(settings: RunSettings) -> bool:
    return STORAGES[settings.adapter.base_precision].linears == "int8"


def _settle_integers(settings: RunSettings, unet: UNet2DConditionModel, compute: Compute) -> bool:
    """Measure whether integers are faster, where they are left open and the UNet is on a GPU."""
    asked = settings.engine.int8_compute
    is_here = next(unet.parameters()).device.type == "cuda"
    if asked != "auto" or not _has_integers(settings) or not is_here:
        return asked == "on"
    side = settings.dataset.resolution // _PIXELS_PER_TOKEN
    tokens = settings.training.batch_size * side**2
    return are_integers_faster(tokens, compute.device, compute.dtype)


def _settle_memory(settings: RunSettings) -> MemoryMode:
    asked = settings.engine.memory
    return "keep-all" if asked == "auto" else asked


def _settle(switch: Switch, *, auto: bool) -> bool:
    return auto if switch == "auto" else switch == "on"
