"""A base that was rebuilt of our own layers computes what it did, or is found not to."""

import pytest
import torch

from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.adapters.verification.attachment import witness_attachment
from rasengan_xl.adapters.verification.base_checks import check_base
from rasengan_xl.adapters.verification.fingerprint import take_fingerprint
from rasengan_xl.config.settings import AdapterSettings
from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.engine.transformer_block import TransformerBlock
from rasengan_xl.sdxl.components import load_unet
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.model_folder import find_model

from ...conftest import METHODS


class Attached:
    """The mini model with a fresh adapter on it."""

    def __init__(self, method="lora", dtype=torch.float32, **options):
        self.compute = Compute(torch.device("cpu"), dtype)
        settings = AdapterSettings(rank=2, **METHODS[method])
        self.unet = load_unet(find_model("mini"), self.compute, settings.base_precision)
        self.base = take_fingerprint(self.unet, self.compute)
        self.adapter = attach_adapter(self.unet, settings, 1, EngineOptions(**options))

    def witness(self):
        return witness_attachment(self.adapter, self.base, self.compute)

    def failures(self):
        checks = check_base(self.adapter, self.base, self.witness(), [], self.compute)
        return [c.name for c in checks if c.status == "failed" and c.name != "output changed"]


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_in_float32_nothing_changes_to_the_bit(method):
    witness = Attached(method).witness()
    assert witness.is_exact
    assert witness.base_gap.share == witness.fresh_gap.share == 0


@pytest.mark.parametrize(
    ("method", "options"),
    [("qdora", {}), ("lora", {"channels_last": True}), ("dora", {"implementation": "peft"})],
)
def test_in_16_bits_what_changes_is_rounding(method, options):
    attached = Attached(method, torch.bfloat16, **options)
    assert attached.failures() == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_that_is_wired_wrongly_is_found_in_each_precision(dtype):
    attached = Attached(dtype=dtype)
    name, block = next((n, m) for n, m in attached.unet.named_modules() if is_ours(m))
    projection = block._parts.to_query_key_value
    ((layers, _),) = projection.groups
    projection.groups = ((layers, [1, 0, 2]),)  # keys for queries
    assert attached.failures() == ["base output", "fresh adapter"]
    place = attached.witness().base_gap.place
    assert place.split(".")[:2] == name.split(".")[:2]


def test_an_adapter_that_is_not_fresh_is_found():
    attached = Attached()
    with torch.no_grad():
        for name, weights in attached.adapter.parameters.items():
            weights.add_(0.01 if "lora_B" in name else 0)
    attached.adapter.settle()
    assert attached.failures() == ["fresh adapter"]
    assert not attached.witness().is_exact


def test_a_block_that_computes_nan_or_is_never_reached_is_found():
    attached = Attached()
    shell = attached.unet.mid_block.attentions[0]
    shell.forward = lambda given, *_, **__: (given,)
    assert attached.witness().base_gap.share == float("inf")
    shell.forward = lambda given, *_, **__: (given * float("nan"),)
    assert attached.failures()[:2] == ["base output", "fresh adapter"]


def is_ours(module):
    return isinstance(module, TransformerBlock)
