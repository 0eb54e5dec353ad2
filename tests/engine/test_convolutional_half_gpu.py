"""On a GPU our convolutions, norms and blocks give what diffusers' do, in the order of places."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from rasengan_xl.engine.convolution import FrozenConv2d
from rasengan_xl.engine.group_norm import FusedGroupNorm
from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.engine.resnet_block import LeanResnetBlock

from .test_convolutional_half import OFF, build_unet, step

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
]

ON = EngineOptions()
WAYS = {
    "by channel": ON,
    "by place": replace(ON, channels_last=True),
    "recomputed": replace(ON, channels_last=True, memory="recompute-all"),
}


@pytest.fixture(scope="module")
def expected() -> list[torch.Tensor]:
    return step(build_unet(OFF).cuda())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
def test_values_and_gradients_are_those_of_diffusers(options, dtype, expected):
    unet = build_unet(options).to("cuda", dtype)
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-2}.get(dtype, 0.1)
    for ours, theirs in zip(step(unet), expected, strict=True):
        assert (ours.double() - theirs).norm() / theirs.norm() < tolerance


def test_pictures_leave_in_the_order_in_which_they_came():
    unet = build_unet(WAYS["by place"]).to("cuda", torch.float32)
    turned: list[str] = []
    ordered: list[str] = []

    def watch(name: str, module: nn.Module) -> None:
        def look(_module, given, made):
            if given[0].is_contiguous(memory_format=torch.channels_last):
                left_so = made.is_contiguous(memory_format=torch.channels_last)
                (ordered if left_so else turned).append(name)

        module.register_forward_hook(look)

    for name, module in unet.named_modules():
        if isinstance(module, (FusedGroupNorm, FrozenConv2d, LeanResnetBlock)):
            watch(name, module)
    step(unet)
    assert turned == []
    assert len(ordered) > 10
