"""How fast SDXL's frozen linear layers multiply, by how their weights are stored and computed.

    python benchmarks/int8_products.py

For each shape and number of tokens, forward and the input's gradient: weights in 16 bits; int8 and
NF4, read into 16 bits for each product; int8, multiplied as integers.  Random weights and inputs,
medians over CUDA events, and how far a product is from the one in 16 bits.  One JSON object a line
goes to standard output; the last line is the sum over all shapes.  Needs a GPU.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from rasengan_xl.engine.frozen_linear import base_input_gradient, base_product
from rasengan_xl.engine.weights import release_scratch
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.int8_layers import Int8Linear
from rasengan_xl.sdxl.nf4_layers import store_in_nf4

SHAPES = ((640, 640), (1280, 1280), (2048, 1280), (640, 5120), (1280, 10240), (5120, 1280))
"""Inputs and outputs: attention, keys of the caption, feed-forward."""
TOKENS = (256, 1024, 4096, 16384, 32768)
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
WARM_UP, TIMED = 5, 20
Product = Callable[[Tensor], Tensor]


def main() -> None:
    """Print a line for each product, and one of their sums."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", choices=DTYPES, default="bf16")
    parser.add_argument("--tokens", nargs="+", type=int, default=TOKENS)
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("needs a GPU")
    sums: dict[str, float] = {}
    for tokens in asked.tokens:
        for inside, outside in SHAPES:
            for line in measure(tokens, inside, outside, DTYPES[asked.precision]):
                print(json.dumps(line), flush=True)
                name = f"{line['direction']} {line['how']} {tokens}"
                sums[name] = sums.get(name, 0.0) + float(line["ms"])
    device = torch.cuda.get_device_name()
    print(json.dumps({"device": device, "precision": asked.precision, "ms_of_all_shapes": sums}))


@torch.no_grad()
def measure(
    tokens: int, inside: int, outside: int, dtype: torch.dtype
) -> Iterator[dict[str, str | int | float]]:
    """Time a layer each way, forward and backward."""
    device = torch.device("cuda")
    torch.manual_seed(0)
    plain = nn.Linear(inside, outside, bias=False, device=device, dtype=dtype)
    stored = Int8Linear(plain, device)
    in_nf4 = store_in_nf4(plain, Compute(device, dtype))
    release_scratch()
    for direction, product, width in (
        ("forward", base_product, inside),
        ("gradient", base_input_gradient, outside),
    ):
        ways: dict[str, Product] = {
            "16-bit": partial(product, layer=plain),
            "int8 stored": partial(product, layer=stored),
            "nf4 stored": partial(product, layer=in_nf4),
            "int8 computed": partial(product, layer=stored, as_integers=True),
        }
        given = torch.randn(tokens, width, device=device, dtype=dtype)
        wanted = ways["16-bit"](given).float()
        for how, way in ways.items():
            off = (way(given).float() - wanted).norm() / wanted.norm()
            ms = median_ms(way, given)
            yield {
                "direction": direction,
                "tokens": tokens,
                "inputs": inside,
                "outputs": outside,
                "how": how,
                "ms": ms,
                "tflops": 2 * tokens * inside * outside / ms / 1e9,
                "relative_error": off.item(),
            }


def median_ms(way: Product, given: Tensor) -> float:
    """Return the median time of a product, each with another input."""
    inputs = [torch.randn_like(given) for _ in range(2)]
    for turn in range(WARM_UP):
        way(inputs[turn % 2])
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(TIMED + 1)]
    marks[0].record()
    for turn, mark in enumerate(marks[1:]):
        way(inputs[turn % 2])
        mark.record()
    torch.cuda.synchronize()
    return statistics.median(first.elapsed_time(second) for first, second in pairwise(marks))


if __name__ == "__main__":
    main()
