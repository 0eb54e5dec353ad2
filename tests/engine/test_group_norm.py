"""Norm and activation in one are PyTorch's two, and keep the input and two numbers a group."""

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F  # noqa: N812

from rasengan_xl.engine.group_norm import FusedGroupNorm, fused_group_norm, is_frozen_norm

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def make_norm(dtype: torch.dtype = torch.float64) -> nn.GroupNorm:
    torch.manual_seed(0)
    norm = nn.GroupNorm(4, 12, eps=1e-5).requires_grad_(False)
    norm.weight.normal_()
    norm.bias.normal_()
    return norm.to(dtype)


def draw(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def reference(pictures, norm, shift=None, *, activate):
    shifted = pictures if shift is None else pictures + shift[:, :, None, None]
    return F.silu(norm(shifted)) if activate else norm(shifted)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("activate", [True, False])
@pytest.mark.parametrize("shifted", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_values_and_gradients_are_those_of_pytorch(dtype, shifted, activate, layout):
    norm = make_norm(dtype)
    results = []
    for compute in (fused_group_norm, reference):
        pictures = draw(2, 12, 5, 6, dtype=dtype).to(memory_format=layout).requires_grad_()
        shift = draw(2, 12, dtype=dtype, seed=2).requires_grad_() if shifted else None
        made = compute(pictures, norm, shift, activate=activate)
        made.backward(draw(2, 12, 5, 6, dtype=dtype, seed=3).to(memory_format=layout))
        assert made.is_contiguous(memory_format=layout)
        results.append((made, pictures.grad, *([shift.grad] if shifted else [])))
    for ours, theirs in zip(*results, strict=True):
        assert ours.dtype == dtype
        assert torch.equal(ours, theirs)


def test_the_input_and_two_numbers_a_group_are_all_that_is_kept():
    norm, pictures = make_norm(), draw(2, 12, 5, 6).requires_grad_()
    kept = []
    with saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        fused_group_norm(pictures, norm, activate=True)
    assert sorted(tensor.numel() for tensor in kept) == [2 * 4, 2 * 4, pictures.numel()]


def test_a_shift_alone_may_be_trained():
    norm, shift = make_norm(), draw(2, 12).requires_grad_()
    fused_group_norm(draw(2, 12, 5, 6), norm, shift, activate=True).sum().backward()
    ours, shift.grad = shift.grad, None
    reference(draw(2, 12, 5, 6), norm, shift, activate=True).sum().backward()
    torch.testing.assert_close(ours, shift.grad, rtol=1e-12, atol=1e-12)


def test_pictures_in_neither_order_are_normalized_too():
    norm, pictures = make_norm(), draw(2, 12, 5, 12)[..., ::2].requires_grad_()
    made = fused_group_norm(pictures, norm, activate=True)
    made.backward(draw(2, 5, 6, 12).permute(0, 3, 1, 2))
    ours = torch.autograd.grad(
        reference(pictures, norm, activate=True), pictures, draw(2, 5, 6, 12).permute(0, 3, 1, 2)
    )[0]
    assert torch.equal(made, reference(pictures, norm, activate=True))
    torch.testing.assert_close(pictures.grad, ours, rtol=1e-12, atol=1e-12)


def test_pictures_of_another_type_are_normalized_in_that_of_the_norm():
    norm = make_norm(torch.bfloat16)
    made = fused_group_norm(draw(2, 12, 5, 6).float(), norm, draw(2, 12).float(), activate=True)
    assert made.dtype == torch.bfloat16


@pytest.mark.parametrize("layout", LAYOUTS)
def test_without_values_it_has_the_shapes(layout):
    norm = make_norm(torch.bfloat16).to("meta")
    pictures = torch.empty(2, 12, 5, 6, dtype=torch.bfloat16, device="meta")
    pictures = pictures.contiguous(memory_format=layout).requires_grad_()
    kept = []
    with saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        made = fused_group_norm(pictures, norm, activate=True)
    made.backward(torch.empty_like(made))
    assert [tensor.dtype for tensor in kept] == [torch.bfloat16, torch.float32, torch.float32]
    assert pictures.grad.shape == made.shape == pictures.shape
    assert made.is_contiguous(memory_format=layout)


def test_a_norm_in_its_place_has_its_parameters():
    norm = make_norm()
    ours = FusedGroupNorm(norm, activate=True)
    assert {name: id(p) for name, p in ours.named_parameters()} == {
        name: id(p) for name, p in norm.named_parameters()
    }
    assert torch.equal(ours(draw(2, 12, 5, 6)), F.silu(norm(draw(2, 12, 5, 6))))


def test_only_plain_norms_that_are_not_trained_are_replaced():
    assert is_frozen_norm(make_norm())
    assert not is_frozen_norm(make_norm().requires_grad_())
    assert not is_frozen_norm(nn.GroupNorm(4, 12, affine=False))
    assert not is_frozen_norm(nn.LayerNorm(12).requires_grad_(False))
