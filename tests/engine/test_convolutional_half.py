"""A UNet whose convolutions and norms are ours computes what it did, under the same names."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from rasengan_xl.engine import convolutional_half
from rasengan_xl.engine.convolution import FrozenConv2d
from rasengan_xl.engine.convolutional_half import rebuild_convolutions
from rasengan_xl.engine.group_norm import FusedGroupNorm
from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.engine.resnet_block import LeanResnetBlock
from rasengan_xl.sdxl.int8_layers import Int8Conv2d

from ..conftest import build_tiny_unet

OFF = EngineOptions(frozen_convolutions=False, fused_group_norm=False)
WAYS = {
    "frozen convolutions": replace(OFF, frozen_convolutions=True),
    "fused norms": replace(OFF, fused_group_norm=True),
    "channels last": replace(OFF, channels_last=True),
    "recomputed": replace(OFF, memory="recompute-all"),
    "all": EngineOptions(channels_last=True, memory="recompute-all"),
}


def build_unet(options: EngineOptions = OFF) -> UNet2DConditionModel:
    torch.manual_seed(0)
    unet = build_tiny_unet().double().requires_grad_(False).train()
    rebuild_convolutions(unet, options)
    return unet


def step(unet: UNet2DConditionModel) -> list[torch.Tensor]:
    """Return the output, and the gradients of the latents and of the prompts."""
    generator = torch.Generator().manual_seed(1)
    config, device = unet.config, unet.device
    pooled_width = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    latents, prompts, pooled = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).to(device, unet.dtype)
        for shape in ((2, 4, 8, 12), (2, 3, config.cross_attention_dim), (2, pooled_width))
    )
    latents.requires_grad_()
    prompts.requires_grad_()
    condition = {"text_embeds": pooled, "time_ids": torch.ones(2, 6, device=device)}
    times = torch.tensor([1, 500], device=device)
    made = unet(latents, times, prompts, added_cond_kwargs=condition).sample
    made.square().sum().backward()
    return [made, latents.grad, prompts.grad]


@pytest.fixture(scope="module")
def expected() -> list[torch.Tensor]:
    return step(build_unet())


def kept_bytes(unet: UNet2DConditionModel) -> int:
    """Add up what autograd keeps of a step, parameters left out."""
    parameters = {parameter.data_ptr() for parameter in unet.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in parameters:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        step(unet)
    return sum(kept.values())


def count(unet: nn.Module, kind: type[nn.Module]) -> int:
    return sum(type(module) is kind for module in unet.modules())


@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
def test_every_way_alone_gives_the_same_values_and_gradients(options, expected):
    for ours, theirs in zip(step(build_unet(options)), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_with_every_way_off_nothing_is_replaced():
    assert repr(build_unet()) == repr(build_tiny_unet())


def test_every_frozen_part_is_replaced():
    plain, ours = build_unet(), build_unet(EngineOptions())
    assert count(ours, FrozenConv2d) == count(plain, nn.Conv2d)
    assert count(ours, LeanResnetBlock) == count(plain, ResnetBlock2D)
    assert [count(ours, kind) for kind in (nn.Conv2d, ResnetBlock2D)] == [0, 0]
    assert count(ours, FusedGroupNorm) == count(plain, Transformer2DModel) + 1


def test_a_third_of_what_a_plain_unet_keeps_is_not_kept():
    kept = {}
    for options in (OFF, EngineOptions()):
        unet = build_unet(options)
        kept[options] = kept_bytes(unet)
    assert kept[EngineOptions()] < 0.7 * kept[OFF], kept


def test_without_values_it_takes_a_step():
    unet = build_unet(EngineOptions(channels_last=True)).to("meta")
    assert [tensor.is_meta for tensor in step(unet)] == [True, True, True]


def test_names_and_parameters_stay():
    plain = build_unet()
    before = dict(plain.named_parameters())
    rebuild_convolutions(plain, EngineOptions(channels_last=True))
    after = dict(plain.named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in after.values()
               if p.dim() == 4)  # fmt: skip


def test_a_second_time_changes_nothing():
    unet = build_unet(EngineOptions())
    once = repr(unet)
    rebuild_convolutions(unet, EngineOptions())
    assert repr(unet) == once


def test_what_is_trained_or_of_another_kind_stays():
    class Other(nn.Conv2d):
        pass

    unet = build_tiny_unet().requires_grad_(False)
    unet.conv_in = Other(4, 64, 3, padding=1).requires_grad_(False)
    unet.conv_out.requires_grad_(True)
    unet.conv_norm_out.requires_grad_(True)
    rebuild_convolutions(unet, EngineOptions())
    assert type(unet.conv_in) is Other
    assert type(unet.conv_out) is nn.Conv2d
    assert type(unet.conv_norm_out) is nn.GroupNorm
    assert isinstance(unet.conv_act, nn.SiLU)


def test_convolutions_stored_in_int8_stay_and_are_turned():
    unet = build_unet()
    block = unet.mid_block.resnets[0]
    block.conv1 = Int8Conv2d(block.conv1, torch.device("cpu"))
    expected = step(unet)
    rebuild_convolutions(unet, EngineOptions(channels_last=True))
    stored = unet.mid_block.resnets[0].conv1
    assert type(stored) is Int8Conv2d
    assert stored.weight.is_contiguous(memory_format=torch.channels_last)
    for ours, theirs in zip(step(unet), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_blocks_to_compile_are_left_to_the_compiler():
    unet = build_unet(EngineOptions(compile=True))
    blocks = [module for module in unet.modules() if isinstance(module, LeanResnetBlock)]
    assert blocks
    for block in blocks:
        assert block.compiled
        assert not block.fuse_norms
        assert type(block.conv1) is nn.Conv2d
    assert type(unet.conv_out) is FrozenConv2d


def test_the_compiler_is_let_make_all_forms_by_the_one_name_that_each_pytorch_has(monkeypatch):
    of_torch_2_6 = SimpleNamespace(cache_size_limit=8)
    monkeypatch.setattr(convolutional_half, "compiler", of_torch_2_6)
    build_unet(EngineOptions(compile=True))
    assert of_torch_2_6.cache_size_limit == convolutional_half.FORMS_OF_A_BLOCK
