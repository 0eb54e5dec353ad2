"""A lean block computes what diffusers' does, keeps less, and bypasses nothing."""

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from rasengan_xl.engine.convolution import FrozenConv2d
from rasengan_xl.engine.resnet_block import LeanResnetBlock, is_plain_block


def make_block(dtype: torch.dtype = torch.float64, **shape) -> ResnetBlock2D:
    torch.manual_seed(0)
    shape = {"in_channels": 8, "out_channels": 12, "temb_channels": 10, "groups": 4} | shape
    return ResnetBlock2D(**shape).to(dtype).requires_grad_(False)


def freeze(block: LeanResnetBlock) -> LeanResnetBlock:
    block.conv1, block.conv2 = FrozenConv2d(block.conv1), FrozenConv2d(block.conv2)
    return block


def draw(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def results_of(block: nn.Module, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    pictures = draw(2, 8, 6, 5, dtype=dtype).requires_grad_()
    time = draw(2, 10, dtype=dtype, seed=2).requires_grad_()
    made = block(pictures, time)
    made.backward(draw(2, 12, 6, 5, dtype=dtype, seed=3))
    return [made, pictures.grad, time.grad]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("fuse_norms", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("recompute", [True, False])
def test_values_and_gradients_are_those_of_diffusers(dtype, fuse_norms, frozen, recompute):
    block = LeanResnetBlock(make_block(dtype), fuse_norms=fuse_norms, recompute=recompute)
    ours = results_of(freeze(block) if frozen else block, dtype)
    for mine, theirs in zip(ours, results_of(make_block(dtype), dtype), strict=True):
        assert torch.equal(mine, theirs)


def test_a_scaled_block_without_a_shortcut_is_scaled():
    shape = {"out_channels": 8, "output_scale_factor": 2.0}
    ours, theirs = LeanResnetBlock(make_block(**shape)), make_block(**shape)
    given = draw(2, 8, 6, 5), draw(2, 10)
    assert ours.conv_shortcut is None
    assert torch.equal(ours(*given), theirs(*given))


@pytest.mark.parametrize(("recompute", "kept_pictures"), [(False, 2), (True, 1)])
def test_what_enters_its_two_norms_is_all_that_is_kept(recompute, kept_pictures):
    plain = make_block(in_channels=12)
    block = freeze(LeanResnetBlock(plain, fuse_norms=True, recompute=recompute))
    kept = []
    pictures = draw(2, 12, 6, 5).requires_grad_()
    with saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        block(pictures, draw(2, 10))
    assert sum(tensor.shape == pictures.shape for tensor in kept) == kept_pictures
    if recompute:
        assert {tensor.shape for tensor in kept} <= {pictures.shape, (2, 10)}


def test_a_wrapped_child_is_called_as_it_is():
    class Doubled(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, given):
            return 2 * self.inner(given)

    given = draw(2, 8, 6, 5), draw(2, 10)
    for name in ("norm1", "conv1", "time_emb_proj", "norm2", "conv2", "conv_shortcut"):
        ours, theirs = LeanResnetBlock(make_block(), fuse_norms=True), make_block()
        for block in (ours, theirs):
            setattr(block, name, Doubled(getattr(block, name)))
        assert torch.equal(ours(*given), theirs(*given)), name


def test_a_dropout_drops_the_same_when_the_block_is_computed_again():
    def gradient(*, recompute: bool) -> torch.Tensor:
        block = LeanResnetBlock(make_block(dropout=0.5), fuse_norms=True, recompute=recompute)
        torch.manual_seed(4)
        return results_of(block.train())[1]

    assert torch.equal(gradient(recompute=True), gradient(recompute=False))


def test_the_generator_is_asked_for_its_state_only_where_something_may_draw(monkeypatch):
    class Wrapped(nn.Module):
        def __init__(self, inner, *, draws: bool):
            super().__init__()
            self.inner, self.draws_by_chance = inner, draws

        def forward(self, given):
            return self.inner(given)

    def asked(block: LeanResnetBlock) -> bool:
        states = []
        monkeypatch.setattr(torch, "get_rng_state", lambda: states.append(1) or torch.ones(1))
        block(draw(2, 8, 6, 5).requires_grad_(), draw(2, 10))
        return bool(states)

    def block(draws: bool | None = None, **shape) -> LeanResnetBlock:
        made = LeanResnetBlock(make_block(**shape), recompute=True).train()
        if draws is not None:
            made.time_emb_proj = Wrapped(made.time_emb_proj, draws=draws)
        return made

    assert [asked(block()), asked(block(draws=False))] == [False, False]
    assert [asked(block(dropout=0.5)), asked(block(draws=True))] == [True, True]
    assert not asked(block(draws=True).eval())


def test_parameters_have_their_names_in_their_order():
    assert list(LeanResnetBlock(make_block()).state_dict()) == list(make_block().state_dict())


def test_blocks_of_other_kinds_are_not_taken_for_plain():
    assert is_plain_block(make_block())
    assert not is_plain_block(make_block(time_embedding_norm="scale_shift"))
    assert not is_plain_block(make_block(temb_channels=None))
    assert not is_plain_block(make_block(up=True))
    assert not is_plain_block(make_block(down=True))
    assert not is_plain_block(nn.Identity())
