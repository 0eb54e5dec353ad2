import pytest
import torch
from torch import nn

from rasengan_xl.engine.frozen_linear import base_input_gradient, base_product, frozen_linear
from rasengan_xl.engine.integer_choice import are_integers_faster
from rasengan_xl.engine.integer_products import integer_product, join_integers, round_rows
from rasengan_xl.sdxl.int8_layers import Int8Linear

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def layer() -> Int8Linear:
    torch.manual_seed(0)
    return Int8Linear(nn.Linear(256, 320), CPU)


def share_off(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def test_products_of_integers_are_near_those_in_full(layer):
    given, back = torch.randn(2, 40, 256), torch.randn(2, 40, 320)
    for found, wanted in (
        (base_product(given, layer, as_integers=True), base_product(given, layer)),
        (base_input_gradient(back, layer, as_integers=True), base_input_gradient(back, layer)),
    ):
        assert found.shape == wanted.shape
        assert 0.0005 < share_off(found, wanted) < 0.01


def test_each_row_has_a_scale_of_its_own(layer):
    given = torch.randn(64, 256)
    given[7] *= 1000
    found, wanted = base_product(given, layer, as_integers=True), base_product(given, layer)
    assert share_off(found[:7], wanted[:7]) < 0.01


def test_rows_come_back_within_half_a_step():
    values, factors = torch.randn(9, 32), torch.rand(32, 1)
    rows, scales = round_rows(values, factors)
    assert rows.dtype == torch.int8
    off = (rows * scales - values * factors.T).abs()
    assert (off <= 0.5001 * scales).all()


def test_gradients_flow_through_integers(layer):
    given = torch.randn(48, 256, requires_grad=True)
    back = torch.randn(48, 320)
    frozen_linear(given, layer, as_integers=True).backward(back)
    assert given.grad is not None
    assert torch.equal(given.grad, base_input_gradient(back, layer, as_integers=True))


def test_what_is_no_work_is_done_in_full(layer):
    few = torch.randn(4, 256)
    assert torch.equal(base_product(few, layer, as_integers=True), base_product(few, layer))
    assert join_integers([Int8Linear(nn.Linear(20, 12), CPU)]) is None
    assert join_integers([layer, nn.Linear(256, 320)]) is None


def test_joined_layers_share_memory_and_a_rounding_of_their_input():
    torch.manual_seed(0)
    layers = [Int8Linear(nn.Linear(64, width), CPU) for width in (32, 48)]
    given = torch.randn(40, 64)
    apart = [base_product(given, layer, as_integers=True) for layer in layers]
    integers, bias = join_integers(layers), torch.cat([layer.bias for layer in layers])
    assert integers is not None
    assert layers[1].weight.data_ptr() == integers.weight[32:].data_ptr()
    assert layers[1].scale.data_ptr() == integers.scale[32:].data_ptr()
    torch.testing.assert_close(integer_product(given, integers, bias), torch.cat(apart, 1))


def test_on_the_meta_device_shapes_come_out():
    meta = torch.device("meta")
    layer = Int8Linear(nn.Linear(256, 320, device=meta, dtype=torch.bfloat16), meta)
    given = torch.empty(2, 40, 256, device=meta, dtype=torch.bfloat16)
    found = base_product(given, layer, as_integers=True)
    assert (found.shape, found.dtype) == ((2, 40, 320), torch.bfloat16)
    assert base_input_gradient(found, layer, as_integers=True).shape == given.shape


def test_only_a_gpu_is_ever_faster_with_integers():
    assert not are_integers_faster(4096, CPU, torch.bfloat16)
