"""What a step takes by count, on tensors that have shapes and no values: no GPU is needed."""

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any
from weakref import ref

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.training_step.arms import Arm
from benchmarks.training_step.inputs import DTYPES
from benchmarks.training_step.rows import Counts
from benchmarks.training_step.trainer import Trainer
from rasengan_xl.sdxl.compute import Compute

GIB = 2**30
_LOOKS = """
    _reshape_alias _unsafe_view alias as_strided chunk detach diagonal expand is_same_size
    lift_fresh permute reshape select slice split split_with_sizes squeeze t transpose unbind
    unfold unsqueeze view empty empty_like empty_strided new_empty
"""
NO_KERNEL = frozenset(_LOOKS.split())
"""What only looks at memory in another way, or allocates it."""


def count_step(arm: Arm, build: Callable[[Arm, Compute], Trainer]) -> Counts:
    """Count kernels and kept activations of one forward and backward pass.

    On the device `meta` there is no autocast; what it would launch besides is not counted.
    """
    trainer = build(arm, Compute(torch.device("meta"), DTYPES[arm.precision]))
    with flash_attention():
        forward, backward, saved = LaunchCounter(), LaunchCounter(), SavedBytes(trainer.unet)
        with forward, saved_tensors_hooks(saved.keep, saved.give):
            loss = trainer.forward()
        saved_bytes = saved.total()
        with backward:
            loss.backward()
    return Counts(
        kernels_forward=forward.kernels.total(),
        kernels_backward=backward.kernels.total(),
        saved_gib=saved_bytes / GIB,
        model_teraflop=count_model_teraflop(arm, build),
    )


def count_model_teraflop(arm: Arm, build: Callable[[Arm, Compute], Trainer]) -> float:
    """Count a step's arithmetic by the model, as PEFT's LoRA and diffusers compute it."""
    plain = Arm(name="", trainer="diffusers", resolution=arm.resolution)
    trainer = build(plain, Compute(torch.device("meta"), torch.bfloat16))
    with FlopCounterMode(display=False) as counter:
        trainer.forward().backward()
    return arm.batch_size * counter.get_total_flops() / 1e12


class LaunchCounter(TorchDispatchMode):
    """Counts the operations that launch a kernel, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count an operation, and do it."""
        name = func.__name__.partition(".")[0]
        if name not in NO_KERNEL:
            self.kernels[name] += 1
        return func(*args, **(kwargs or {}))


class Kept:
    """A tensor that the backward pass waits for."""

    __slots__ = ("__weakref__", "tensor")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class SavedBytes:
    """Adds up what is kept for the backward pass, each piece of memory once."""

    def __init__(self, unet: Any) -> None:
        self._weights = {storage_id(p) for p in unet.parameters()}
        self._kept: dict[int, Callable[[], Kept | None]] = {}

    def keep(self, tensor: Tensor) -> Any:
        """Take note of a tensor as it is saved."""
        if storage_id(tensor) in self._weights:
            return tensor
        kept = Kept(tensor)
        self._kept[id(kept)] = ref(kept)
        return kept

    def give(self, kept: Any) -> Tensor:
        """Give it back."""
        return kept.tensor if isinstance(kept, Kept) else kept

    def total(self) -> int:
        """Return the bytes of what is still waited for."""
        alive = (kept for each in self._kept.values() if (kept := each()) is not None)
        sizes = {storage_id(kept.tensor): kept.tensor.untyped_storage().nbytes() for kept in alive}
        return sum(sizes.values())


def storage_id(tensor: Tensor) -> int:
    """Tell memory apart that has no address, as on `meta`, by what nothing public tells."""
    return tensor.untyped_storage()._cdata  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


class _Flash(torch.autograd.Function):
    """Attention that keeps what flash attention keeps, in one kernel each way."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = torch.zeros_like(query)  # a kernel, to be counted
        normaliser = torch.empty(query.shape[:-1], dtype=torch.float32, device=query.device)
        ctx.save_for_backward(query, key, value, output, normaliser)
        return output

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = ctx.saved_tensors[:3]
        return torch.zeros_like(query), torch.empty_like(key), torch.empty_like(value)


@contextmanager
def flash_attention() -> Generator[None]:
    """Have attention count as one kernel each way: on `meta` it falls apart into its formula."""
    plain = functional.scaled_dot_product_attention

    def flash(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
        function: Any = _Flash
        return function.apply(query, key, value)

    functional.scaled_dot_product_attention = flash
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = plain
