"""Which kernel of attention is the fastest for a shape, measured once a machine."""

import logging
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from rasengan_xl.fact_index import FactIndex

logger = logging.getLogger(__name__)

Candidate = Literal["cudnn", "flash", "efficient"]
Heads = Float[Tensor, "batch heads _ head_width"]

LARGEST_ERROR = 0.02
"""Most that a kernel's 16-bit result may deviate from float32, as a share of its norm."""
_KIND = "attention kernel"
_BACKENDS: dict[Candidate, SDPBackend] = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
_FROM_BYTES: dict[bytes, Candidate] = {name.encode(): name for name in _BACKENDS}
_WARMUPS, _LAPS = 2, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionShape:
    """What the speed of a kernel depends on, besides the machine."""

    batch: int
    heads: int
    query_tokens: int
    key_tokens: int
    head_width: int
    dtype: torch.dtype
    device: torch.device
    is_differentiated: bool
    """Whether a backward pass follows."""


def describe_shape(query: Heads, key: Heads, value: Heads) -> AttentionShape:
    """Describe what is about to be computed."""
    batch, heads, query_tokens, head_width = query.shape
    device = query.device.type
    mixed = torch.is_autocast_enabled(device)
    return AttentionShape(
        batch=batch,
        heads=heads,
        query_tokens=query_tokens,
        key_tokens=key.shape[2],
        head_width=head_width,
        dtype=torch.get_autocast_dtype(device) if mixed else query.dtype,
        device=query.device,
        is_differentiated=torch.is_grad_enabled()
        and any(tensor.requires_grad for tensor in (query, key, value)),
    )


def recall_or_measure(shape: AttentionShape) -> Candidate | None:
    """Return the fastest correct kernel for a shape; None where there is no choice.

    What was measured is remembered on disk, so that a run that goes on computes as it began.
    """
    if shape.device.type != "cuda":
        return None
    return _recall_or_measure(shape)


@cache
def _recall_or_measure(shape: AttentionShape) -> Candidate | None:
    key = _name(shape)
    with FactIndex() as index:
        known = index.get(_KIND, key)
        if known is None:
            if torch.cuda.is_current_stream_capturing():
                raise AssertionError("attention was not computed before it was recorded")
            # In a thread of its own nothing that surrounds the caller has a part in it: neither
            # autocast nor what a checkpoint does with tensors that are kept.
            with ThreadPoolExecutor(1) as alone:
                measuring = alone.submit(measure_fastest, shape)
            try:
                fastest = measuring.result()
            except torch.OutOfMemoryError as fault:
                logger.warning("attention is left to PyTorch, not measured: %s", fault)
                return None
            # Of several processes that measured at once, all follow the first.
            known = index.get(_KIND, key) or (fastest or "").encode()
            index.put(_KIND, key, known)
    return _FROM_BYTES.get(known)


def measure_fastest(shape: AttentionShape) -> Candidate | None:
    """Try every kernel on random numbers; None if none is fit.

    A kernel that is refused, fails, or deviates from float32 is left out.
    """
    with torch.cuda.device(shape.device):
        inputs = _draw_inputs(shape)
        seconds: dict[Candidate, float] = {name: _time(name, inputs, shape) for name in _BACKENDS}
    fastest = min(_BACKENDS, key=lambda name: seconds[name])
    return fastest if math.isfinite(seconds[fastest]) else None


def _name(shape: AttentionShape) -> str:
    machine = torch.cuda.get_device_name(shape.device), torch.__version__, torch.version.cuda
    facts = {name: str(value) for name, value in asdict(shape).items() if name != "device"}
    return "|".join((*map(str, machine), *facts.values()))


def _draw_inputs(shape: AttentionShape) -> list[Tensor]:
    """Draw query, key, value and the gradient of the output, laid out as a UNet's layers do."""
    generator = torch.Generator(shape.device).manual_seed(0)  # the global one is not ours
    draw = partial(torch.randn, device=shape.device, dtype=shape.dtype, generator=generator)
    width = shape.heads * shape.head_width
    query, gradient = draw(2, shape.batch, shape.query_tokens, width)
    key, value = draw(shape.batch, shape.key_tokens, 2 * width).chunk(2, dim=-1)
    split = (shape.heads, shape.head_width)
    tensors = (query, key, value, gradient)
    return [tensor.unflatten(-1, split).transpose(1, 2) for tensor in tensors]


def _time(name: Candidate, inputs: list[Tensor], shape: AttentionShape) -> float:
    """Return a kernel's least time in milliseconds; infinite if it is not fit."""
    run = partial(_compute, inputs, is_differentiated=shape.is_differentiated)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    laps: list[float] = []
    try:
        with sdpa_kernel(_BACKENDS[name]):
            if not _is_usable(name, inputs) or not is_correct(run(), inputs):
                return math.inf
            for lap in range(_WARMUPS + _LAPS):
                start.record()
                run()
                end.record()
                end.synchronize()
                laps += [start.elapsed_time(end)] if lap >= _WARMUPS else []
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # refused after all
        return math.inf
    return min(laps)


def _is_usable(name: Candidate, inputs: list[Tensor]) -> bool:
    """Ask beforehand: a kernel that is refused when called warns of every reason."""
    backends = torch.backends.cuda
    query, key, value = inputs[:3]
    parameters = backends.SDPAParams(query, key, value, None, 0.0, False, False)  # noqa: FBT003
    match name:
        case "cudnn":
            return backends.can_use_cudnn_attention(parameters)
        case "flash":
            return backends.can_use_flash_attention(parameters)
        case "efficient":
            return backends.can_use_efficient_attention(parameters)


def _compute(inputs: list[Tensor], *, is_differentiated: bool) -> list[Tensor]:
    """Return the output, and the gradients of query, key and value if there are any."""
    *given, gradient = inputs
    with torch.set_grad_enabled(is_differentiated):
        leaves = [tensor.detach().requires_grad_(is_differentiated) for tensor in given]
        query, key, value = leaves
        output = scaled_dot_product_attention(query, key, value)
        found = torch.autograd.grad(output, leaves, gradient) if is_differentiated else ()
    return [output.detach(), *found]


def is_correct(found: list[Tensor], inputs: list[Tensor]) -> bool:
    """Compare the first and the last head with what float32 gives without any kernel.

    Heads know nothing of each other, so two of them can be computed alone.

    Args:
        found: Output, and gradients of query, key and value if there are any.
        inputs: Query, key, value and the gradient of the output.
    """
    exact = [_two_heads(tensor).float() for tensor in inputs]
    with sdpa_kernel(SDPBackend.MATH):
        expected = _compute(exact, is_differentiated=len(found) > 1)
    pairs = zip(found, expected, strict=True)
    return all(_deviation(_two_heads(own), right) <= LARGEST_ERROR for own, right in pairs)


def _two_heads(tensor: Tensor) -> Tensor:
    return torch.stack((tensor[:1, 0], tensor[-1:, -1]), dim=1)


def _deviation(found: Tensor, expected: Tensor) -> float:
    difference = (found.float() - expected).square().sum()
    share = (difference / expected.square().sum()).sqrt().item()
    return share if math.isfinite(share) else math.inf
