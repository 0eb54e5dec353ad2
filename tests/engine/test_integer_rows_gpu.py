"""The kernels that round rows, beside PyTorch's own operations."""

import pytest
import torch
from torch import nn

from rasengan_xl.engine import integer_products
from rasengan_xl.engine.frozen_linear import base_input_gradient, base_product, frozen_linear
from rasengan_xl.engine.weights import read_briefly, read_weight, release_scratch
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.int8_layers import Int8Linear
from rasengan_xl.sdxl.nf4_layers import store_in_nf4

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CUDA = torch.device("cuda")
WIDTHS = [(77, 2048, 640), (1024, 1280, 10240), (4096, 5120, 1280), (33, 640, 640)]


@pytest.fixture(params=[torch.float16, torch.bfloat16, torch.float32], ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integer_products, "has_kernels", lambda _: False)


@pytest.mark.parametrize("with_factors", [False, True])
def test_rows_are_rounded_as_pytorch_rounds_them(dtype, with_factors, monkeypatch):
    values = torch.randn(77, 1000, device=CUDA, dtype=dtype)
    factors = torch.rand(1000, 1, device=CUDA) if with_factors else None
    rows, scales = integer_products.round_rows(values, factors)
    eager(monkeypatch)
    wanted, of_wanted = integer_products.round_rows(values, factors)
    torch.testing.assert_close(scales, of_wanted, rtol=1e-6, atol=0)
    assert (rows.int() - wanted.int()).abs().max() <= 1
    assert (rows != wanted).float().mean() < 0.01, "but for halves"


def test_what_is_not_finite_stays_so(dtype):
    layer = Int8Linear(nn.Linear(640, 640, device=CUDA, dtype=dtype), CUDA)
    given = torch.randn(64, 640, device=CUDA, dtype=dtype)
    given[3, 5], given[9, 7] = torch.inf, torch.nan
    finite = base_product(given, layer, as_integers=True).isfinite().all(dim=1)
    assert finite.sum() == 62
    assert not finite[[3, 9]].any()


@pytest.mark.parametrize(("tokens", "inside", "outside"), WIDTHS)
def test_products_are_near_those_in_full(tokens, inside, outside, dtype):
    layer = Int8Linear(nn.Linear(inside, outside, device=CUDA, dtype=dtype), CUDA)
    given = torch.randn(tokens, inside, device=CUDA, dtype=dtype)
    back = torch.randn(tokens, outside, device=CUDA, dtype=dtype)
    for product, argument in ((base_product, given), (base_input_gradient, back)):
        found, wanted = product(argument, layer, as_integers=True), product(argument, layer)
        assert found.dtype == wanted.dtype == dtype
        assert (found.float() - wanted.float()).norm() / wanted.float().norm() < 0.02


@pytest.mark.parametrize("store", ["nf4", "int8"])
def test_a_weight_is_read_into_shared_memory_on_a_gpu_and_in_a_graph(store, dtype):
    release_scratch()
    plain = nn.Linear(640, 1280, device=CUDA, dtype=dtype)
    stored = Int8Linear(plain, CUDA)
    layer = stored if store == "int8" else store_in_nf4(plain, Compute(CUDA, dtype))
    assert torch.equal(read_briefly(layer), read_weight(layer))
    given = torch.randn(64, 640, device=CUDA, dtype=dtype, requires_grad=True)

    def compute() -> tuple[torch.Tensor, torch.Tensor]:
        output = frozen_linear(given, layer)
        return output, torch.autograd.grad(output.sum(), given)[0]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        compute()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        recorded = compute()
    with torch.no_grad():
        given.copy_(torch.randn_like(given))
    graph.replay()
    for found, wanted in zip(recorded, compute(), strict=True):
        assert torch.equal(found, wanted)
