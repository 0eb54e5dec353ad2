"""What a step of the full-size UNet launches and keeps, worked out without values."""

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.config.settings import AdapterSettings
from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.sdxl.full_size import POOLED_WIDTH, TOKENS, build_full_size_unet

from .steps import compute

GIB = 2**30


class Launches(TorchDispatchMode):
    """Counts the operations that a GPU would have to be told of: views cost nothing."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        is_view = any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns)
        is_empty = "empty" in func.__name__ or func.__name__.startswith(("detach", "new_empty"))
        self.count += not (is_view or is_empty)
        return made


def measure(options, side=128):
    """Return launches, and the GiB that autograd keeps, of a LoRA step on one picture."""
    unet = build(options)
    given = (
        torch.empty(1, 4, side, side, dtype=torch.bfloat16, device="meta"),
        torch.empty(1, dtype=torch.long, device="meta"),
        torch.empty(1, TOKENS, 2048, dtype=torch.bfloat16, device="meta"),
        torch.empty(1, POOLED_WIDTH, dtype=torch.bfloat16, device="meta"),
        torch.empty(1, 6, dtype=torch.long, device="meta"),
    )
    own = {tensor.untyped_storage()._cdata for tensor in (*unet.parameters(), *unet.buffers())}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    with Launches() as launches:
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = compute(unet, given).float().square().mean()
        loss.backward()
    return launches.count, sum(storage.nbytes() for storage in kept.values()) / GIB


def build(options):
    with torch.device("meta"):
        unet = build_full_size_unet().to(torch.bfloat16)
        attach_adapter(unet, AdapterSettings(rank=16, alpha=32), 0, options)
    return unet.train()


@pytest.mark.slow
def test_a_step_launches_and_keeps_little():
    launches, kept_gib = measure(EngineOptions())
    assert launches <= 5000
    assert kept_gib < 4.1
