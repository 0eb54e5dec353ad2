"""Whether a GPU multiplies int8 weights faster as integers, by a short measurement.

It is taken on SDXL's largest layers, at the tokens that a run has: an attention's projection and
both of a feed-forward layer, forward and the input's gradient.  What was measured is remembered,
so that a run that goes on computes as it began.
"""

import statistics
from collections.abc import Callable

import torch
from torch import Tensor, nn

from rasengan_xl.engine.frozen_linear import base_input_gradient, base_product
from rasengan_xl.fact_index import FactIndex
from rasengan_xl.sdxl.int8_layers import Int8Linear

SHAPES = ((1280, 1280), (1280, 10240), (5120, 1280))
WARM_UP, TIMED = 3, 9
WORTH = 0.95
"""Of the time, at most: less gain is not worth rounding what goes through a layer."""

_KIND = "integers are faster"

Work = Callable[[], object]


def are_integers_faster(tokens: int, device: torch.device, dtype: torch.dtype) -> bool:
    """Recall which way is faster, or measure both; nothing but a GPU is ever faster.

    Args:
        tokens: That a layer sees in a step.
        device: Where.
        dtype: Of what the layers compute otherwise.
    """
    if device.type != "cuda":
        return False
    machine = torch.cuda.get_device_name(device), torch.__version__, torch.version.cuda
    key = "|".join(map(str, (*machine, tokens, dtype)))
    with FactIndex() as index:
        known = index.get(_KIND, key)
        if known is None:
            known = b"yes" if measure_integers(tokens, device, dtype) else b"no"
            index.put(_KIND, key, known)
    return known == b"yes"


@torch.no_grad()
def measure_integers(tokens: int, device: torch.device, dtype: torch.dtype) -> bool:
    """Measure both ways on a GPU; arguments as of `are_integers_faster`."""
    milliseconds = {True: 0.0, False: 0.0}
    for inside, outside in SHAPES:
        plain = nn.Linear(inside, outside, bias=False, device=device, dtype=dtype)
        layer = Int8Linear(plain, device)
        given = torch.randn(tokens, inside, device=device, dtype=dtype)
        gradient = torch.randn(tokens, outside, device=device, dtype=dtype)
        for as_integers in milliseconds:
            work = _work(layer, given, gradient, as_integers=as_integers)
            milliseconds[as_integers] += _median_ms(work)
    return milliseconds[True] < WORTH * milliseconds[False]


def _work(layer: Int8Linear, given: Tensor, gradient: Tensor, *, as_integers: bool) -> Work:
    def compute() -> None:
        base_product(given, layer, as_integers=as_integers)
        base_input_gradient(gradient, layer, as_integers=as_integers)

    return compute


def _median_ms(work: Work) -> float:
    for _ in range(WARM_UP):
        work()
    times: list[float] = []
    for _ in range(TIMED):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        work()
        last.record()
        last.synchronize()
        times.append(first.elapsed_time(last))
    return statistics.median(times)
