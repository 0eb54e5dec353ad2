"""Which layers' input is the caption alone, and where their products lie beside one another.

They are the keys and values of cross-attention.  Layers of one width lie together, so that a
group of them, which is one matrix product, is one stretch of columns.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from diffusers.models.attention import BasicTransformerBlock
from torch import nn

TEXT_KEY_VALUE = ("attn2.to_k", "attn2.to_v")


def list_blocks(unet: nn.Module) -> list[str]:
    """Name the transformer blocks that we compute by our own layers."""
    modules: dict[str, nn.Module] = dict(cast("Any", unet).named_modules())
    return [n for n, m in modules.items() if isinstance(m, BasicTransformerBlock) and fits(m)]


def list_text_layers(blocks: Sequence[str]) -> list[str]:
    """Name the layers of some blocks whose input is the caption."""
    return [f"{block}.{role}" for block in blocks for role in TEXT_KEY_VALUE]


def lay_out_columns(widths: Mapping[str, int]) -> dict[str, range]:
    """Give each layer columns of its own.

    Args:
        widths: Of the layers' products, by name.
    """
    columns: dict[str, range] = {}
    end = 0
    for name in sorted(widths, key=widths.__getitem__):  # stable: in their order, but for widths
        columns[name] = range(end, end + widths[name])
        end += widths[name]
    return columns


def caption_columns(unet: nn.Module) -> dict[str, range]:
    """Give the layers of a UNet whose input is the caption columns of their own.

    Args:
        unet: As diffusers builds it; may be on the meta device.
    """
    return lay_out_columns(
        {
            name: cast("nn.Linear", unet.get_submodule(name)).out_features
            for name in list_text_layers(list_blocks(unet))
        }
    )


def count_columns(columns: Mapping[str, range]) -> int:
    """Return how many columns there are."""
    return sum(map(len, columns.values()))


def fits(block: BasicTransformerBlock) -> bool:
    """Tell whether a block is SDXL's: two attentions, plain norms, a GEGLU, no dropout."""
    part: Any = block
    attentions = (part.attn1, part.attn2)
    return (
        part.norm_type == "layer_norm"
        and all(a is not None and a.norm_q is None and a.group_norm is None for a in attentions)
        and not part.only_cross_attention
        and part.attn1.heads == part.attn2.heads
        and type(part.ff.net[0]).__name__ == "GEGLU"
        and all(m.p == 0 for m in block.modules() if isinstance(m, nn.Dropout))
        and all(_is_known(m) for m in (*part.attn1.children(), *part.attn2.children()))
    )


def _is_known(module: nn.Module) -> bool:
    return isinstance(module, (nn.Linear, nn.ModuleList))
