"""Have tensors without values go the way that they would go on a GPU.

The meta device knows neither autocast nor the fused kernels of attention: both are applied here
to the calls above, so that autograd keeps what it would keep on a GPU.
"""

from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_functional: Any = torch.nn.functional
_torch: Any = torch
_LOWERED: set[Any] = {
    *(torch.conv2d, torch.matmul, torch.mm, torch.bmm, torch.addmm, torch.baddbmm),
    *(_functional.linear, Tensor.matmul, Tensor.__matmul__),
}
"""What CUDA's autocast computes in 16 bits (ATen/autocast_mode.h), as far as diffusers calls it."""
_RAISED: set[Any] = {
    *(_functional.layer_norm, torch.layer_norm, _functional.group_norm, torch.group_norm),
    *(torch.exp, torch.pow, Tensor.pow, _torch.norm, _functional.interpolate),
    *(torch.softmax, Tensor.softmax, _functional.softmax, Tensor.sum, torch.sum),
    _functional.huber_loss,
}
"""What it computes in 32 bits."""


class CudaOnMeta(TorchFunctionMode):
    """Autocast to a 16-bit format, if one is given, and fused attention."""

    def __init__(self, autocast_to: torch.dtype | None = None) -> None:
        super().__init__()
        self._lower = autocast_to
        self._told = False
        self._cast: dict[int, tuple[Tensor, Tensor]] = {}

    def again(self) -> "CudaOnMeta":
        """Return the same for what is computed a second time."""
        return CudaOnMeta(self._lower)

    def __enter__(self) -> Self:
        """Apply it to what is called in the block; whoever asks is told of autocast, too."""
        self._told = torch.is_autocast_enabled("cuda")
        torch.set_autocast_enabled("cuda", self._lower is not None)
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        self._cast.clear()
        torch.set_autocast_enabled("cuda", self._told)
        super().__exit__(*exception)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call a function as it would be called on a GPU."""
        kwargs = kwargs or {}
        if func is _functional.scaled_dot_product_attention:
            return self._attend(*args, **kwargs)
        if self._lower is not None and func in _LOWERED:
            args = tuple(map(self._lowered, args))
            kwargs = {name: self._lowered(value) for name, value in kwargs.items()}
        elif self._lower is not None and func in _RAISED:
            args = tuple(map(_raised, args))
            kwargs = {name: _raised(value) for name, value in kwargs.items()}
        return func(*args, **kwargs)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, *_: Any, **unused: Any) -> Tensor:
        if unused.get("attn_mask") is not None or unused.get("is_causal"):
            return _functional.scaled_dot_product_attention(query, key, value, **unused)
        query, key, value = (self._lowered(each) for each in (query, key, value))
        # What the efficient kernel keeps is what the others keep: inputs, output, log-sum-exp.
        needs_backward = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad)
        return torch.ops.aten._scaled_dot_product_efficient_attention(  # noqa: SLF001
            query, key, value, None, needs_backward
        )[0]

    def _lowered(self, value: Any) -> Any:
        if self._lower is None or not isinstance(value, Tensor) or value.dtype is not torch.float32:
            return value
        if not (value.is_leaf and value.requires_grad):
            return value.to(self._lower)
        kept = self._cast.get(id(value))  # autocast casts a weight once in its block
        if kept is None:
            kept = self._cast[id(value)] = (value, value.to(self._lower))
        return kept[1]


def _raised(value: Any) -> Any:
    is_short = isinstance(value, Tensor) and value.dtype in {torch.float16, torch.bfloat16}
    return value.float() if is_short else value
