"""Recognise adapters of other models, to say more than that nothing fits."""

import re
from collections.abc import Iterable

from rasengan_xl.adapters.reading.raw import RawAdapter
from rasengan_xl.adapters.reading.roles import take_apart

_BY_NAME = {
    r"single_transformer_blocks|double_blocks|single_blocks": "Flux",
    r"joint_blocks|(?<!single)_?transformer_blocks[._]\d+[._]attn[._]add_[qkv]_proj": (
        "Stable Diffusion 3"
    ),
    r"^lora_prior_": "Stable Cascade",
    r"^(transformer\.|lora_transformer_)": "a diffusion transformer",
    r"^(lora_unet_|diffusion_model\.)(blocks|layers)[._]": "a diffusion transformer",
}
_BY_WIDTH = {
    768: "Stable Diffusion 1",
    1024: "Stable Diffusion 2",
    1280: "the SDXL refiner",
    2048: "SDXL",
}
"""Of the text that cross-attention reads: `cross_attention_dim` in the UNet's configuration."""
_READS_TEXT = re.compile(r"attn2[._]to_[kv]$")
_INPUT_SIDE = ("down", "hada_w1_b")


def name_foreign_model(raw: RawAdapter, text_widths: Iterable[int]) -> str | None:
    """Tell which other model an adapter is for, if its names or shapes show it.

    Args:
        raw: The adapter.
        text_widths: What the cross-attention of the base model reads.
    """
    for form, model in _BY_NAME.items():
        if any(re.search(form, name) for name in raw.stored):
            return model
    own = set(text_widths)
    foreign = [width for width in _text_widths(raw) if width not in own]
    return next((_BY_WIDTH[width] for width in foreign if width in _BY_WIDTH), None)


def _text_widths(raw: RawAdapter) -> Iterable[int]:
    for name, tensor in raw.stored.items():
        key = take_apart(name)
        if key and key.role in _INPUT_SIDE and _READS_TEXT.search(key.layer):
            yield tensor.shape[1] if len(tensor.shape) > 1 else 0
