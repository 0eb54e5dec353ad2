"""What a step takes by count, on tensors that have shapes and no values: no GPU is needed."""

import gc
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from importlib import import_module
from typing import Any, cast
from weakref import ref

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils import checkpoint as _checkpoint
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.training_step.arms import Arm
from benchmarks.training_step.inputs import DTYPES
from benchmarks.training_step.rows import Counts
from benchmarks.training_step.trainer import Trainer
from rasengan_xl.planning.cuda_on_meta import CudaOnMeta
from rasengan_xl.sdxl.compute import Compute

GIB = 2**30
_LOOKS = """
    _reshape_alias _unsafe_view alias as_strided chunk detach diagonal expand is_same_size
    lift_fresh permute reshape select slice split split_with_sizes squeeze t transpose unbind
    unfold unsqueeze view empty empty_like empty_strided new_empty
"""
NO_KERNEL = frozenset(_LOOKS.split())
"""What only looks at memory in another way, or allocates it."""
_ENGINE = "rasengan_xl.engine"
OWN_KERNELS = {
    ("geglu", "geglu"): 1,
    ("geglu", "geglu_backward_"): 1,
    ("gain", "apply_gain_"): 1,
    ("gain", "gain_backward"): 2,
    ("group_norm", "_forward"): 3,
    ("group_norm", "_backward"): 3,
}
"""What our own functions launch on a GPU, by module and name: on `meta` they only allocate."""


def count_step(arm: Arm, build: Callable[[Arm, Compute], Trainer]) -> Counts:
    """Count operations and kept activations of one forward and backward pass.

    Attention is taken to be one kernel each way; the casts of autocast are counted.
    """
    trainer = build(arm, Compute(torch.device("meta"), DTYPES[arm.precision]))
    if arm.trainer == "diffusers" and arm.checkpointing:
        # What is computed again is cast again, too, whatever the forward pass has cast.
        checkpoints: Any = _checkpoint
        again = partial(
            checkpoints.checkpoint,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), autocast_of(arm)),
        )
        trainer.unet.enable_gradient_checkpointing(again)
    forward, backward = Watch(), Watch()
    with flash_attention(), autocast_of(arm), own_kernels() as ours:
        with forward:
            loss = trainer.forward()
        gc.collect()
        saved_bytes, ours_forward = forward.bytes_in_use(), ours.total()
        with backward:
            loss.backward()
            trainer.gradients()
    return Counts(
        operations_forward=forward.operations.total() + ours_forward,
        operations_backward=backward.operations.total() + ours.total() - ours_forward,
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


def autocast_of(arm: Arm) -> AbstractContextManager[object]:
    """Return what stands for autocast on `meta`, if the arm's trainer uses it."""
    has_it = arm.trainer == "diffusers" or arm.options.get("implementation") == "peft"
    return (
        CudaOnMeta(DTYPES[arm.precision]) if has_it and arm.precision != "fp32" else nullcontext()
    )


class Watch(TorchDispatchMode):
    """Counts operations but for views, by name, and knows which memory is still in use."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()
        self._sizes: dict[int, int] = {}
        self._watched: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do an operation, and take note of it."""
        name = func.__name__.partition(".")[0]
        if name not in NO_KERNEL:
            self.operations[name] += 1
        result: Any = func(*args, **(kwargs or {}))
        given = {storage_id(tensor.untyped_storage()) for tensor in _tensors(args, kwargs)}
        for made in _tensors(result):
            # What was there before, weights and buffers, may come back as a view, or changed.
            if storage_id(made.untyped_storage()) not in given:
                self._note(made.untyped_storage())
        return result

    def bytes_in_use(self) -> int:
        """Return the size of all memory that was taken and is not given back."""
        return sum(self._sizes.values())

    def _note(self, storage: Any) -> None:
        known = storage_id(storage)
        if known in self._sizes:
            return

        def forget(_: Any) -> None:
            self._sizes.pop(known, None)
            self._watched.pop(known, None)

        self._sizes[known] = storage.nbytes()
        self._watched[known] = ref(storage, forget)


def _tensors(*values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list | dict):
            several = cast("Any", value)
            yield from _tensors(*(several.values() if isinstance(several, dict) else several))


def storage_id(storage: Any) -> int:
    """Tell memory apart that has no address, as on `meta`, by what nothing public tells."""
    return storage._cdata  # noqa: SLF001


@contextmanager
def own_kernels() -> Generator[Counter[str]]:
    """Count what our own functions would launch, by their names."""
    counted: Counter[str] = Counter()
    engine = [m for name, m in list(sys.modules.items()) if name.startswith(f"{_ENGINE}.")]
    replaced: list[tuple[Any, str, Any]] = []
    for (module, name), launches in OWN_KERNELS.items():
        plain = getattr(import_module(f"{_ENGINE}.{module}"), name)
        watched = partial(_count_and_call, counted, (name, launches), plain)
        places = [m for m in engine if vars(m).get(name) is plain]
        replaced += [(place, name, plain) for place in places]
        for place in places:
            setattr(place, name, watched)
    try:
        yield counted
    finally:
        for place, name, plain in replaced:
            setattr(place, name, plain)


def _count_and_call(
    counted: Counter[str], what: tuple[str, int], function: Any, *args: Any, **kwargs: Any
) -> Any:
    name, launches = what
    counted[name] += launches
    return function(*args, **kwargs)


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
