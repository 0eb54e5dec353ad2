"""Whether pictures stay ordered by place on their way through all of a UNet, and back."""

import pytest
import torch
from torch import nn

from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.config.settings import AdapterSettings
from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.mini.architecture import TEXT_WIDTH

from ..conftest import build_tiny_unet


def is_by_place(pictures: torch.Tensor) -> bool:
    """Say whether channels of a place lie side by side; part of them do, too, after a `cat`."""
    return pictures.stride(1) == 1


def are_pictures(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.dim() == 4 and value.shape[1] > 4


class Watch:
    """Looks at all that a module's children pass on, and at the gradients that come back."""

    def __init__(self, unet: nn.Module):
        self.turned: list[str] = []
        self.seen = self.seen_back = 0
        for name, module in unet.named_modules():
            module.register_forward_hook(
                lambda module, given, output, name=name: self.look(name, output)
            )

    def look(self, name: str, output: object) -> None:
        for value in output if isinstance(output, tuple) else (output,):
            if are_pictures(value):
                self.seen += 1
                self.turned += [] if is_by_place(value) else [name]
                if value.requires_grad:
                    value.register_hook(lambda gradient: self.look_back(name, gradient))

    def look_back(self, name: str, gradient: torch.Tensor) -> None:
        self.seen_back += 1
        self.turned += [] if is_by_place(gradient) else [f"{name}, back"]


@pytest.mark.parametrize("fused", [True, False])
def test_pictures_stay_ordered_by_place(fused: bool):
    torch.manual_seed(0)
    unet = build_tiny_unet()
    settings = AdapterSettings(rank=2, alpha=2, targets=["to_q", "to_out.0"])
    options = EngineOptions(channels_last=True, fused_group_norm=fused, frozen_convolutions=fused)
    attach_adapter(unet, settings, 0, options)
    watch = Watch(unet)
    unet(
        torch.randn(2, 4, 8, 12),
        torch.tensor([3, 900]),
        torch.randn(2, 7, 2 * TEXT_WIDTH),
        added_cond_kwargs={
            "text_embeds": torch.randn(2, TEXT_WIDTH),
            "time_ids": torch.tensor([[8, 12, 0, 0, 8, 12]] * 2),
        },
    ).sample.square().sum().backward()
    assert watch.seen > 20
    assert watch.seen_back > 10
    assert not watch.turned
