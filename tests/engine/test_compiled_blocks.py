"""Blocks of convolutions that torch.compile has in hand."""

from functools import partial

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D

from rasengan_xl.engine import resnet_block
from rasengan_xl.engine.resnet_block import LeanResnetBlock


def take_step(block: LeanResnetBlock, width: int) -> list[torch.Tensor]:
    """Return the output, and the gradients of the pictures and of the time."""
    torch.manual_seed(1)
    device = block.conv1.weight.device
    pictures = torch.randn(2, 32, 6, width, device=device, requires_grad=True)
    time = torch.randn(2, 16, device=device, requires_grad=True)
    made = block(pictures, time)
    return [made, *torch.autograd.grad(made.square().sum(), (pictures, time))]


def build_block(device: torch.device, **how: bool) -> LeanResnetBlock:
    torch.manual_seed(0)
    block = ResnetBlock2D(in_channels=32, out_channels=64, temb_channels=16, groups=8)
    return LeanResnetBlock(block.to(device).requires_grad_(requires_grad=False), **how)


def assert_computes_alike(device: torch.device, *, recompute: bool) -> None:
    plain, compiled = (
        build_block(device, recompute=recompute, compiled=is_compiled)
        for is_compiled in (False, True)
    )
    for width in (6, 8):  # another bucket
        for found, expected in zip(
            take_step(compiled, width), take_step(plain, width), strict=True
        ):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.fixture
def compiles(monkeypatch: pytest.MonkeyPatch):
    """Have blocks be compiled by what `how` says, in one piece; forget it afterwards."""

    def compiles(**how: object) -> None:
        monkeypatch.setattr(torch, "compile", partial(torch.compile, fullgraph=True, **how))
        resnet_block._compile.cache_clear()

    yield compiles
    resnet_block._compile.cache_clear()
    torch.compiler.reset()


@pytest.mark.parametrize("recompute", [False, True])
def test_a_block_is_traced_in_one_piece(compiles, recompute: bool):
    compiles(backend="aot_eager")
    assert_computes_alike(torch.device("cpu"), recompute=recompute)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # among the compiler's own parts
def test_a_compiled_block_computes_what_it_did(compiles):
    compiles()  # on a processor it takes a minute
    with torch.backends.cudnn.flags(allow_tf32=False):
        assert_computes_alike(torch.device("cuda"), recompute=False)
