"""Each check that is made at the end of a training, and how it fails."""

import pytest
import torch

from rasengan_xl.adapters.verification import base_checks
from rasengan_xl.adapters.verification.trained import verify_trained
from rasengan_xl.runs.verification import LayerChange
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.tensor_file import read_header, read_tensors, write_tensors

from .conftest import details, statuses

LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
CHECKS = {
    "keys",
    "saved",
    "finite",
    "precision",
    "parameter count",
    "scale",
    "weight change",
    "base weights",
    "base output",
    "fresh adapter",
    "output changed",
    "output restored",
}


@pytest.fixture(params=["dora", "qlora", "dora by peft"])
def trained(request, make_trained):
    method, _, implementation = request.param.partition(" by ")
    return make_trained(method, implementation or "fused")


@pytest.fixture
def dora(make_trained):
    return make_trained("dora")


def rewrite(file, change):
    tensors = {name: tensor.clone() for name, tensor in read_tensors(file).items()}
    header = read_header(file)
    change(tensors)
    write_tensors(file, tensors, header)


def test_what_was_trained_and_saved_passes_and_stays_as_it_is(trained):
    before = {name: p.detach().clone() for name, p in trained.adapter.parameters.items()}
    found = verify_trained(trained)
    assert statuses(found) == dict.fromkeys(CHECKS, "passed")
    assert found.passed
    assert all(torch.equal(p, before[name]) for name, p in trained.adapter.parameters.items())
    assert len(found.layers) > 0
    assert all(layer.relative for layer in found.layers)


@pytest.mark.parametrize(
    ("change", "checks"),
    [
        (lambda t: t[f"unet.{LAYER}.lora_magnitude_vector"].mul_(1.001), {"saved"}),
        (lambda t: t.pop(f"unet.{LAYER}.lora_magnitude_vector"), {"saved", "keys"}),
        (lambda t: t.pop(f"unet.{LAYER}.lora_B.weight"), {"saved", "keys"}),
        (lambda t: t.update({n: v.half() for n, v in t.items()}), {"saved", "precision"}),
    ],
    ids=["altered", "magnitude lost", "factor lost", "float16"],
)
def test_a_file_that_is_not_what_was_trained_fails(dora, change, checks):
    rewrite(dora.file, change)
    found = verify_trained(dora)
    assert {check.name for check in found.failures} == checks


def test_a_base_weight_that_training_changed_is_named(trained):
    with torch.no_grad():
        trained.adapter.layers[LAYER].base.weight.zero_()
    found = verify_trained(trained)
    assert {"base weights", "output restored"} <= {check.name for check in found.failures}
    assert LAYER in details(found)["base weights"]


def test_a_scale_on_the_model_that_is_not_the_settings_fails(make_trained):
    trained = make_trained("dora", "peft")
    trained.adapter.unet.get_submodule(LAYER).scaling["default"] /= 2
    found = verify_trained(trained)
    assert [check.name for check in found.failures] == ["scale"]
    assert f"on 1 layer: unet.{LAYER}" in details(found)["scale"]


def test_an_adapter_that_the_model_does_not_use_fails(dora):
    dora.adapter.rebuilt.adapter.enabled = False
    found = verify_trained(dora)
    assert [check.name for check in found.failures] == ["output changed"]


def test_an_adapter_that_peft_does_not_use_fails(make_trained, monkeypatch):
    trained = make_trained("dora", "peft")
    trained.adapter.unet.disable_adapters()
    monkeypatch.setattr(type(trained.adapter.unet), "enable_adapters", lambda _: None)
    found = verify_trained(trained)
    assert [check.name for check in found.failures] == ["output changed"]


def check_effect(most: float):
    """Of two equal outputs, on a base in bfloat16."""
    layer = LayerChange(
        layer="x", kind="LoRA", rank=1, scale=1.0, change_norm=most, weight_norm=1.0
    )
    same = torch.ones(3)
    compute = Compute(torch.device("cpu"), torch.bfloat16)
    return base_checks._check_effect(same, same, [layer], compute).status


def test_a_change_too_small_for_the_precision_is_noted_and_a_larger_one_must_show():
    assert check_effect(1e-4) == "noted"
    assert check_effect(0.1) == "failed"


@pytest.mark.parametrize(("off", "status"), [(0.0, "passed"), (1e-3, "noted"), (0.1, "failed")])
def test_a_device_may_vary_by_little_and_a_trace_is_more(off, status):
    base = torch.ones(8)
    assert base_checks._check_restored(base, base + off, base + 1).status == status
