"""A frozen convolution is PyTorch's, and keeps nothing of its input."""

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from rasengan_xl.engine.convolution import FrozenConv2d

SHAPES = {
    "three by three": {"kernel_size": 3, "padding": 1},
    "one by one": {"kernel_size": 1},
    "downward": {"kernel_size": 3, "stride": 2, "padding": 1},
    "apart, in groups, without bias": {
        "kernel_size": 3, "padding": 2, "dilation": 2, "groups": 2, "bias": False,
    },
}  # fmt: skip


def make_pair(dtype: torch.dtype = torch.float64, **shape) -> tuple[nn.Conv2d, FrozenConv2d]:
    torch.manual_seed(0)
    plain = nn.Conv2d(4, 6, **shape).to(dtype).requires_grad_(False)
    return plain, FrozenConv2d(plain)


def random_pictures(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(2, 4, 8, 10, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_values_and_gradients_are_those_of_the_plain_one(shape, layout):
    plain, frozen = make_pair(**shape)
    plain.to(memory_format=layout)
    ours, theirs = (random_pictures().to(memory_format=layout).requires_grad_() for _ in range(2))
    made, expected = frozen(ours), plain(theirs)
    assert torch.equal(made, expected)
    assert made.is_contiguous(memory_format=layout)
    upstream = torch.randn_like(expected)
    made.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-12)


def test_nothing_is_kept_for_the_backward_pass():
    _, frozen = make_pair(kernel_size=3, padding=1)
    kept = []
    with saved_tensors_hooks(kept.append, lambda tensor: tensor):
        frozen(random_pictures().requires_grad_())
    assert kept == []


def test_weight_and_bias_are_those_of_the_plain_one_under_the_same_names():
    plain, frozen = make_pair(kernel_size=3)
    ours, theirs = dict(frozen.named_parameters()), dict(plain.named_parameters())
    assert list(ours) == list(theirs)
    assert all(ours[name] is theirs[name] for name in theirs)
    assert repr(frozen) == repr(plain).replace("Conv2d", "FrozenConv2d")


def test_pictures_of_another_type_are_convolved_in_that_of_the_weight():
    plain, frozen = make_pair(torch.bfloat16, kernel_size=3)
    pictures = random_pictures(torch.float32).requires_grad_()
    made = frozen(pictures)
    assert torch.equal(made, plain(pictures.bfloat16()))
    made.sum().backward()
    assert pictures.grad.dtype == torch.float32


def test_pictures_that_need_no_gradient_give_none():
    _, frozen = make_pair(kernel_size=3)
    assert not frozen(random_pictures()).requires_grad


def test_without_values_it_has_the_shapes():
    plain, _ = make_pair(torch.bfloat16, kernel_size=3, stride=2, padding=1)
    frozen = FrozenConv2d(plain.to("meta"))
    pictures = torch.empty(2, 4, 8, 10, dtype=torch.bfloat16, device="meta", requires_grad=True)
    made = frozen(pictures)
    made.backward(torch.empty_like(made))
    assert made.shape == (2, 6, 4, 5)
    assert pictures.grad.shape == pictures.shape
