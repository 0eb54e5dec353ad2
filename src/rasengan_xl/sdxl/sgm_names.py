"""What the layers of an SDXL UNet are called in Stability's own code (github.com/Stability-AI).

Single-file checkpoints and the adapters of github.com/kohya-ss/sd-scripts use these names.
"""

from collections.abc import Iterator
from typing import Any, cast

from torch import nn

_ENTRANCE = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def sgm_layer_names(unet: nn.Module) -> dict[str, str]:
    """Map every layer that has weights of its own to Stability's name for it.

    Args:
        unet: Of diffusers' class; may be on the meta device, without weights.
    """
    modules: dict[str, nn.Module] = dict(cast("Any", unet).named_modules())
    leaves = [
        name
        for name, module in modules.items()
        if any(True for _ in module.parameters(recurse=False))
    ]
    blocks = dict(_pair_blocks(unet))
    return {name: _rename(name, blocks) for name in leaves}


def _pair_blocks(unet: Any) -> Iterator[tuple[str, str]]:
    """Pair each block of diffusers' with Stability's, which counts them in one row."""
    index = 1  # 0 is the first convolution
    for i, block in enumerate(unet.down_blocks):
        yield from _pair_row(f"down_blocks.{i}", block, "input_blocks.{}", index)
        index += len(block.resnets)
        if block.downsamplers:
            yield f"down_blocks.{i}.downsamplers.0.conv", f"input_blocks.{index}.0.op"
            index += 1
    yield "mid_block.resnets.0", "middle_block.0"
    yield "mid_block.attentions.0", "middle_block.1"
    yield "mid_block.resnets.1", "middle_block.2"
    index = 0
    for i, block in enumerate(unet.up_blocks):
        yield from _pair_row(f"up_blocks.{i}", block, "output_blocks.{}", index)
        index += len(block.resnets)
        if block.upsamplers:  # lies in the last block that was counted, after its attention
            place = 2 if hasattr(block, "attentions") else 1
            yield f"up_blocks.{i}.upsamplers.0.conv", f"output_blocks.{index - 1}.{place}.conv"


def _pair_row(ours: str, block: Any, theirs: str, first: int) -> Iterator[tuple[str, str]]:
    for j in range(len(block.resnets)):
        yield f"{ours}.resnets.{j}", f"{theirs.format(first + j)}.0"
        if hasattr(block, "attentions"):
            yield f"{ours}.attentions.{j}", f"{theirs.format(first + j)}.1"


def _rename(name: str, blocks: dict[str, str]) -> str:
    if name in _ENTRANCE:
        return _ENTRANCE[name]
    block, theirs = next(
        (ours, theirs) for ours, theirs in blocks.items() if f"{name}.".startswith(f"{ours}.")
    )
    inside = name.removeprefix(block).removeprefix(".")
    if ".resnets." in block:
        inside = _RESNET[inside]
    return f"{theirs}.{inside}" if inside else theirs
