"""Attention of several heads, by the kernel that is asked for or the fastest there is."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from rasengan_xl.engine.attention_choice import describe_shape, recall_or_measure
from rasengan_xl.errors import DeviceError

Kernel = Literal["auto", "default", "cudnn", "flash", "efficient", "math"]

_BACKENDS = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
_REFUSED = ("No available kernel", "No viable backend", "only supports")
"""What PyTorch says of a kernel that the device, the number format or the shape rules out."""


def attend(
    query: Float[Tensor, "batch query_token width"],
    key: Float[Tensor, "batch key_token width"],
    value: Float[Tensor, "batch key_token width"],
    heads: int,
    kernel: Kernel,
) -> Float[Tensor, "batch query_token width"]:
    """Let every head of each query weigh all values (arXiv:1706.03762, eq. 1).

    Args:
        query: May be a view into a wider tensor, as may key and value.
        key: Compared with.
        value: What is weighed.
        heads: Parts that the width is split into.
        kernel: `default` leaves it to PyTorch, `auto` to a measurement of this shape.

    Raises:
        DeviceError: The device cannot do this with the kernel.
    """
    parts = [_split(tensor, heads) for tensor in (query, key, value)]
    return _attend(parts, kernel).transpose(1, 2).flatten(-2)


def _split(
    tensor: Float[Tensor, "batch token width"], heads: int
) -> Float[Tensor, "batch heads token head_width"]:
    return tensor.view(*tensor.shape[:2], heads, -1).transpose(1, 2)


def _attend(parts: list[Tensor], kernel: Kernel) -> Tensor:
    query, key, value = parts
    if query.is_meta:
        # Else PyTorch would allocate there what no GPU does: the whole matrix of weights.
        flash: Callable[..., tuple[Tensor, ...]] = (
            torch.ops.aten._scaled_dot_product_flash_attention  # noqa: SLF001 - has no other name
        )
        output, *_ = flash(query, key, value)
        return output
    if kernel == "auto":
        kernel = recall_or_measure(describe_shape(query, key, value)) or "default"
    if kernel == "default":
        return scaled_dot_product_attention(query, key, value)
    try:
        with sdpa_kernel(_BACKENDS[kernel]):
            return scaled_dot_product_attention(query, key, value)
    except RuntimeError as fault:
        if any(words in str(fault) for words in _REFUSED):
            raise _unfit(kernel, query) from fault
        raise


def _unfit(kernel: str, query: Tensor) -> DeviceError:
    number = str(query.dtype).removeprefix("torch.")
    return DeviceError(
        f"engine.attention = {kernel!r}: this {query.device.type} has no such kernel for {number} "
        f"and heads {query.shape[-1]} wide; use 'auto'"
    )
