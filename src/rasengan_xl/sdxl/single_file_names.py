"""What the tensors of an SDXL are called, and how they lie, in a single-file checkpoint.

The layout is Stability's own (github.com/Stability-AI/generative-models); the second text encoder
is in OpenCLIP's form. ComfyUI, A1111, Forge and kohya's scripts read it, and diffusers by
`from_single_file`.
"""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from rasengan_xl.errors import ModelError
from rasengan_xl.sdxl.sgm_names import sgm_layer_names

UNET, VAE = "model.diffusion_model.", "first_stage_model."
FIRST_ENCODER = "conditioner.embedders.0.transformer."
SECOND_ENCODER = "conditioner.embedders.1.model."
POSITIONS = "text_model.embeddings.position_ids"
"""A row of 0, 1, 2 ..., which files of the first text encoder hold, or leave out."""
RECOGNIZED_BY = {
    "A1111": (f"{SECOND_ENCODER}ln_final.weight", f"{UNET}input_blocks.0.0.weight"),
    "ComfyUI": (
        f"{UNET}input_blocks.0.0.weight",
        f"{UNET}input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight",
        f"{UNET}label_emb.0.0.weight",
        f"{FIRST_ENCODER}text_model.embeddings.token_embedding.weight",
        f"{SECOND_ENCODER}token_embedding.weight",
        f"{VAE}decoder.conv_in.weight",
    ),
    "diffusers": (
        f"{SECOND_ENCODER}transformer.resblocks.9.mlp.c_proj.bias",
        f"{FIRST_ENCODER}text_model.embeddings.position_embedding.weight",
        f"{SECOND_ENCODER}positional_embedding",
    ),
}
"""By which names each program tells that a file is an SDXL, and where its parts are."""

_QUERY = re.compile(r"(?P<block>.*\.attn)\.q_proj\.(?P<kind>weight|bias)")
_KEY_OR_VALUE = re.compile(r"\.self_attn\.[kv]_proj\.")
_OPEN_CLIP = (
    ("text_model.embeddings.token_embedding", "token_embedding"),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text_model.final_layer_norm", "ln_final"),
    ("text_model.encoder.layers", "transformer.resblocks"),
    (".layer_norm1.", ".ln_1."),
    (".layer_norm2.", ".ln_2."),
    (".mlp.fc1.", ".mlp.c_fc."),
    (".mlp.fc2.", ".mlp.c_proj."),
    (".self_attn.", ".attn."),
)
_VAE = (
    (".conv_norm_out.", ".norm_out."),
    (".conv_shortcut.", ".nin_shortcut."),
    (".mid_block.resnets.0.", ".mid.block_1."),
    (".mid_block.resnets.1.", ".mid.block_2."),
    (".mid_block.attentions.0.", ".mid.attn_1."),
    (".group_norm.", ".norm."),
    (".to_q.", ".q."),
    (".to_k.", ".k."),
    (".to_v.", ".v."),
    (".to_out.0.", ".proj_out."),
    (".down_blocks.", ".down."),
    (".resnets.", ".block."),
    (".downsamplers.0.", ".downsample."),
    (".upsamplers.0.", ".upsample."),
)
_UP_BLOCK = re.compile(r"\.up_blocks\.(\d+)\.")
_VAE_ATTENTION = re.compile(r"\.attentions\.0\.to_(q|k|v|out\.0)\.weight$")


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleFileTensor:
    """One tensor of a single file, made of one or several of a diffusers folder."""

    name: str
    sources: tuple[str, ...]
    arrange: Callable[[Sequence[Tensor]], Tensor]
    """Turns the sources into it; on the meta device, into its shape."""


def single_file_tensors(names: Collection[str], unet: nn.Module) -> list[SingleFileTensor]:
    """Plan a single file from the tensors of a diffusers folder.

    Args:
        names: `<part>.<parameter>`, as `StoredWeights.names` lists them.
        unet: Their UNet; may be on the meta device.

    Raises:
        ModelError: A tensor has no place in a single file.
    """
    layers = sgm_layer_names(unet)
    levels = _count_vae_levels(names)
    planned = [_place(name, layers, levels) for name in names if not _is_implied(name)]
    return sorted(planned, key=lambda tensor: tensor.name)


def unrecognized(names: Iterable[str]) -> dict[str, list[str]]:
    """Tell which programs would not take a single file for an SDXL, and what they miss."""
    present = set(names)
    missed = {
        program: [name for name in marks if name not in present]
        for program, marks in RECOGNIZED_BY.items()
    }
    return {program: absent for program, absent in missed.items() if absent}


def _is_implied(name: str) -> bool:
    """Tell what needs no place of its own.

    In OpenCLIP's form, keys and values lie with their queries, and positions need no numbers.
    """
    part, _, inside = name.partition(".")
    return part == "text_encoder_2" and bool(_KEY_OR_VALUE.search(name) or inside == POSITIONS)


def _place(name: str, layers: dict[str, str], levels: int) -> SingleFileTensor:
    part, _, inside = name.partition(".")
    layer, _, kind = inside.rpartition(".")
    match part:
        case "unet" if layer in layers:
            return _as_it_is(f"{UNET}{layers[layer]}.{kind}", name)
        case "vae":
            renamed = f"{VAE}{_rename_in_vae(inside, levels)}"
            if _VAE_ATTENTION.search(name):
                return SingleFileTensor(name=renamed, sources=(name,), arrange=_as_convolution)
            return _as_it_is(renamed, name)
        case "text_encoder":
            return _as_it_is(f"{FIRST_ENCODER}{inside}", name)
        case "text_encoder_2":
            return _place_in_open_clip(name, inside)
        case _:
            raise ModelError(f"{name}: has no place in a single-file SDXL; export to a folder")


def _place_in_open_clip(name: str, inside: str) -> SingleFileTensor:
    if inside == "text_projection.weight":
        renamed = f"{SECOND_ENCODER}text_projection"
        return SingleFileTensor(name=renamed, sources=(name,), arrange=_transposed)
    for ours, theirs in _OPEN_CLIP:
        inside = inside.replace(ours, theirs)
    query = _QUERY.fullmatch(inside)
    if query is None:
        return _as_it_is(f"{SECOND_ENCODER}{inside}", name)
    return SingleFileTensor(
        name=f"{SECOND_ENCODER}{query['block']}.in_proj_{query['kind']}",
        sources=tuple(name.replace(".q_proj.", f".{letter}_proj.") for letter in "qkv"),
        arrange=_joined,
    )


def _rename_in_vae(name: str, levels: int) -> str:
    renamed = f".{name}"
    for ours, theirs in _VAE:
        renamed = renamed.replace(ours, theirs)
    # Stability counts the decoder's levels by resolution, diffusers in the order they are used.
    return _UP_BLOCK.sub(lambda found: f".up.{levels - 1 - int(found[1])}.", renamed)[1:]


def _count_vae_levels(names: Iterable[str]) -> int:
    in_vae = (_UP_BLOCK.search(name) for name in names if name.startswith("vae."))
    return 1 + max((int(found[1]) for found in in_vae if found), default=-1)


def _as_it_is(renamed: str, name: str) -> SingleFileTensor:
    return SingleFileTensor(name=renamed, sources=(name,), arrange=_same)


def _same(tensors: Sequence[Shaped[Tensor, "..."]]) -> Shaped[Tensor, "..."]:
    return tensors[0]


def _joined(tensors: Sequence[Shaped[Tensor, "width ..."]]) -> Shaped[Tensor, "tripled ..."]:
    return torch.cat(list(tensors))


def _transposed(tensors: Sequence[Shaped[Tensor, "out in"]]) -> Shaped[Tensor, "in out"]:
    return tensors[0].T


def _as_convolution(tensors: Sequence[Shaped[Tensor, "out in"]]) -> Shaped[Tensor, "out in 1 1"]:
    return tensors[0][:, :, None, None]
