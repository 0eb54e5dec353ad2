"""What a pass computes: how many operations of which kind, how much arithmetic, how many bytes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal, NamedTuple

from torch import Tensor
from torch.utils.flop_counter import flop_registry

OperationKind = Literal["matmul", "convolution", "attention", "memory"]

_UNCOUNTED_MATMULS = frozenset({"_int_mm", "gemm_4bit"})
"""Of integers, and bitsandbytes' of 4-bit weights: PyTorch has no formula for them."""
_MATMULS = frozenset({"mm", "addmm", "bmm", "baddbmm", "_scaled_mm"}) | _UNCOUNTED_MATMULS
_FREE = frozenset(
    {
        *("view", "_unsafe_view", "reshape", "_reshape_alias", "t", "transpose", "permute"),
        *("expand", "slice", "unsqueeze", "squeeze", "detach", "alias", "split", "chunk"),
        *("select", "as_strided", "split_with_sizes", "unbind", "lift_fresh", "is_same_size"),
        "promote_types",
    }
)
"""Views: no kernel is launched for them."""
_ALLOCATIONS = frozenset({"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"})
"""On the meta device, what our own kernels are going to write."""


class Operation(NamedTuple):
    """One kind of kernel launch."""

    kind: OperationKind
    flops: int
    bytes: int
    """Read and written."""


@dataclass(slots=True)
class Work:
    """How often each operation is carried out."""

    operations: Counter[Operation] = field(default_factory=Counter[Operation])

    @property
    def flops(self) -> int:
        """Return the number of floating-point operations."""
        return sum(each.flops * count for each, count in self.operations.items())

    @property
    def kernels(self) -> int:
        """Return the number of kernels launched."""
        return self.operations.total()

    def times(self, count: int) -> "Work":
        """Return the same work done several times."""
        return Work(Counter({each: n * count for each, n in self.operations.items()}))

    def __add__(self, other: "Work") -> "Work":
        return Work(self.operations + other.operations)


def is_view(name: str) -> bool:
    """Tell whether an ATen operation, by its name, launches no kernel and takes no memory."""
    return name in _FREE


def describe(func: Any, name: str, args: Sequence[Any], kwargs: Any, result: Any) -> Operation:
    """Describe an ATen call.

    Args:
        func: The overload that was called.
        name: Its name without namespace and overload.
        args: Its positional arguments.
        kwargs: Its other arguments.
        result: What it returned.
    """
    written = _bytes_of(result)
    if name in _ALLOCATIONS:
        return Operation("memory", 0, 2 * written)
    read = sum(map(_bytes_of, args))
    if name in _UNCOUNTED_MATMULS:
        flops = 2 * prod(result.shape) * int(args[0].shape[-1])
    else:
        formula = flop_registry.get(func.overloadpacket)
        flops = int(formula(*args, **kwargs, out_val=result)) if formula else 0
    return Operation(_kind_of(name), flops, read + written)


def _kind_of(name: str) -> OperationKind:
    if name in _MATMULS:
        return "matmul"
    if "convolution" in name:
        return "convolution"
    return "attention" if "attention" in name else "memory"


def _bytes_of(value: Any) -> int:
    if isinstance(value, Tensor):
        return prod(value.shape) * value.element_size()
    if isinstance(value, (list, tuple)):
        return sum(_bytes_of(item) for item in value)  # pyright: ignore[reportUnknownVariableType]
    return 0
