"""Put our own convolutions, norms and blocks of them in place of a UNet's."""

from typing import Any, cast

import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from torch._dynamo import config as compiler

from rasengan_xl.engine.convolution import FrozenConv2d
from rasengan_xl.engine.group_norm import FusedGroupNorm, is_frozen_norm
from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.engine.resnet_block import LeanResnetBlock, is_plain_block

FORMS_OF_A_BLOCK = 128
"""Of SDXL's 17 blocks, 13 differ in width; each is compiled with and without gradients, and again
for other sizes of pictures, all from one function."""


def rebuild_convolutions(unet: UNet2DConditionModel, options: EngineOptions) -> None:
    """Replace what is frozen and plain, as the options say; what is not stays as it is.

    Names of parameters stay, and the parameters themselves.
    """
    if options.compile:
        # By its old name, which still holds: PyTorch 2.6 knows no `recompile_limit`.
        compiler.cache_size_limit = max(compiler.cache_size_limit, FORMS_OF_A_BLOCK)
    if _needs_blocks(options):
        _replace_blocks(unet, options)
    if options.fused_group_norm:
        _replace_norms(unet)
    if options.frozen_convolutions:
        _replace_convolutions(unet, in_blocks=not options.compile)
    if options.channels_last:
        order_by_place(unet)


def order_by_place(unet: nn.Module) -> None:
    """Store weights of convolutions as the kernels for pictures ordered by place read them."""
    for parameter in unet.parameters():
        if parameter.dim() == 4:
            ordered = parameter.data.contiguous(memory_format=torch.channels_last)
            # Weights of one place are in either order; only their strides tell kernels which.
            _, channels, height, width = ordered.shape
            strides = (height * width * channels, 1, width * channels, channels)
            parameter.data = ordered.as_strided(ordered.shape, strides)


def _needs_blocks(options: EngineOptions) -> bool:
    return (
        options.fused_group_norm
        or options.frozen_convolutions
        or options.compile
        or options.channels_last  # diffusers' block orders a shortcut's input by channel
        or options.memory == "recompute-all"
    )


def _replace_blocks(unet: nn.Module, options: EngineOptions) -> None:
    for parent, name, child in _children(unet):
        if is_plain_block(child):
            block = LeanResnetBlock(
                cast("ResnetBlock2D", child),
                fuse_norms=options.fused_group_norm and not options.compile,
                recompute=options.memory == "recompute-all",
                compiled=options.compile,
            )
            parent.register_module(name, block)


def _replace_norms(unet: UNet2DConditionModel) -> None:
    """Replace norms outside of blocks, which compute their own."""
    shell: Any = unet
    if isinstance(shell.conv_act, nn.SiLU) and is_frozen_norm(shell.conv_norm_out):
        shell.conv_norm_out = FusedGroupNorm(shell.conv_norm_out, activate=True)
        shell.conv_act = nn.Identity().train(shell.training)
    for parent, name, child in _children(unet):
        if is_frozen_norm(child) and not isinstance(parent, LeanResnetBlock):
            norm = FusedGroupNorm(cast("nn.GroupNorm", child), activate=False)
            parent.register_module(name, norm)


def _replace_convolutions(unet: nn.Module, *, in_blocks: bool) -> None:
    ours: dict[nn.Module, FrozenConv2d] = {}
    for parent, name, child in _children(unet):
        if _is_frozen_convolution(child) and (in_blocks or not isinstance(parent, LeanResnetBlock)):
            convolution = cast("nn.Conv2d", child)
            if convolution not in ours:  # a sampler has its one under two names
                ours[convolution] = FrozenConv2d(convolution)
            parent.register_module(name, ours[convolution])


def _is_frozen_convolution(module: nn.Module) -> bool:
    """Say whether a module is PyTorch's own convolution: one stored in int8 keeps no input."""
    return (
        type(module) is nn.Conv2d
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
        and not any(parameter.requires_grad for parameter in module.parameters())
    )


def _children(unet: nn.Module) -> list[tuple[nn.Module, str, nn.Module]]:
    """List each module's children by each name that it has for them, before any is replaced."""
    modules: dict[str, nn.Module] = dict(cast("Any", unet).named_modules(remove_duplicate=False))
    places = [(name.rpartition("."), module) for name, module in modules.items() if name]
    return [(modules[parent], name, module) for (parent, _, name), module in places]
