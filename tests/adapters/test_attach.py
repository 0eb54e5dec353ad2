import pytest
import torch

from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.config.settings import AdapterSettings
from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.errors import AdapterError
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.quantization import quantize

from ..conftest import METHODS, build_tiny_unet

CPU = Compute(torch.device("cpu"), torch.float32)


def unet_output(unet, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(shape, generator=generator).to(dtype)

    condition = {
        "text_embeds": draw(2, 64),
        "time_ids": torch.tensor([[32, 32, 0, 0, 32, 32]] * 2),
    }
    with torch.no_grad():
        return unet(
            draw(2, 4, 8, 8), torch.tensor([3, 900]), draw(2, 77, 128), added_cond_kwargs=condition
        ).sample


@pytest.fixture(params=["fused", "peft"])
def implementation(request):
    return request.param


def attach(unet, method, implementation="fused", **changes):
    if METHODS[method]["base_precision"] == "nf4":
        quantize(unet, CPU, "nf4")
    settings = AdapterSettings(rank=2, **METHODS[method], **changes)
    return attach_adapter(unet, settings, 3, EngineOptions(implementation=implementation))


@pytest.mark.parametrize("method", METHODS)
def test_a_fresh_adapter_leaves_the_base_output_unchanged(tiny_unet, method, implementation):
    adapter = attach(tiny_unet, method, implementation)
    with adapter.disabled():
        base = unet_output(tiny_unet)
    # DoRA divides by a norm and multiplies by it again: equal but for the last bit.
    torch.testing.assert_close(unet_output(tiny_unet), base, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_a_fresh_adapter_leaves_a_16_bit_base_exactly_unchanged(tiny_unet, method, implementation):
    adapter = attach(tiny_unet.to(torch.bfloat16), method, implementation)
    with torch.autocast("cpu", torch.bfloat16):
        fresh = unet_output(tiny_unet, torch.bfloat16)
        with adapter.disabled():
            base = unet_output(tiny_unet, torch.bfloat16)
    assert torch.equal(fresh, base)


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_disabling_a_trained_adapter_restores_the_base_exactly(tiny_unet, method, implementation):
    before = unet_output(tiny_unet)
    adapter = attach(tiny_unet, method, implementation)
    with torch.no_grad():
        for parameter in adapter.parameters.values():
            parameter.add_(0.1)
    adapter.settle()
    assert (unet_output(tiny_unet) - before).abs().max() > 1e-3
    with adapter.disabled():
        assert torch.equal(unet_output(tiny_unet), before)
    assert (unet_output(tiny_unet) - before).abs().max() > 1e-3


def test_only_the_adapter_is_trainable_and_it_is_float32_over_a_16_bit_base(
    tiny_unet, implementation
):
    adapter = attach(tiny_unet.to(torch.bfloat16), "dora", implementation)
    trainable = {name for name, p in tiny_unet.named_parameters() if p.requires_grad}
    assert trainable == (set(adapter.parameters) if implementation == "peft" else set())
    assert all(".lora_" in name for name in adapter.parameters)
    trained = adapter.trained.values()
    assert all(p.requires_grad and p.dtype == torch.float32 for p in trained)
    assert sum(p.numel() for p in trained) == adapter.parameter_count
    assert {p.dtype for p in adapter.parameters.values()} == {torch.float32}
    assert tiny_unet.conv_in.weight.dtype == torch.bfloat16


def test_the_seed_alone_decides_the_first_weights_whatever_the_implementation():
    torch.manual_seed(1)
    one = attach(build_tiny_unet(), "lora", "fused")
    torch.manual_seed(2)
    other = attach(build_tiny_unet(), "lora", "peft")
    assert one.parameters.keys() == other.parameters.keys()
    for name, parameter in one.parameters.items():
        assert torch.equal(parameter, other.parameters[name]), name


def test_attaching_does_not_touch_global_chance(tiny_unet, implementation):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    attach(tiny_unet, "lora", implementation)
    assert torch.equal(torch.rand(3), expected)


def test_a_target_that_matches_nothing_is_refused(tiny_unet):
    with pytest.raises(AdapterError, match="'add_k_proj' matches no layer"):
        attach(tiny_unet, "lora", targets=("to_q", "add_k_proj"))


def test_a_target_that_is_no_layer_of_weights_is_refused(tiny_unet):
    with pytest.raises(AdapterError, match="conv_act, a SiLU"):
        attach(tiny_unet, "lora", targets=("conv_act",))
    with pytest.raises(AdapterError, match="conv_in, a Conv2d; with decompose = true"):
        attach(tiny_unet, "dora", targets=("conv_in",))


def test_layers_may_have_ranks_and_alphas_of_their_own(tiny_unet, implementation):
    layer = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    shapes = ({"layer": layer, "rank": 5, "alpha": 10},)
    changes = {"alpha": 6, "targets": ("to_q",), "layer_shapes": shapes}
    adapter = attach(tiny_unet, "lora", implementation, **changes)
    ranks = {n: p.shape[0] for n, p in adapter.parameters.items() if "lora_A" in n}
    assert {n: r for n, r in ranks.items() if r != 2} == {f"{layer}.lora_A.default.weight": 5}
    assert {n: s for n, s in adapter.scales().items() if s != 3} == {layer: 2}


def test_a_shape_of_a_layer_that_is_no_target_is_refused(tiny_unet):
    strange = ({"layer": "to_q", "rank": 5, "alpha": 10},)
    with pytest.raises(AdapterError, match="'to_q' is not among the layers"):
        attach(tiny_unet, "lora", targets=("to_k",), layer_shapes=strange)


@pytest.mark.parametrize(("rank_stabilized", "factor"), [(False, 16 / 4), (True, 16 / 2)])
def test_the_update_is_scaled_by_alpha_over_the_rank_or_its_root(
    rank_stabilized, factor, implementation
):
    torch.manual_seed(0)
    unet, merged = build_tiny_unet(), build_tiny_unet()
    merged.load_state_dict(unet.state_dict())
    shape = {"rank_stabilized": rank_stabilized, "alpha": 16, "targets": ("to_q",)}
    settings = AdapterSettings(rank=4, **shape)
    adapter = attach_adapter(unet, settings, 0, EngineOptions(implementation=implementation))
    with torch.no_grad():
        for name in adapter.layers:
            down, up = (adapter.parameters[f"{name}.lora_{f}.default.weight"] for f in "AB")
            torch.nn.init.normal_(up)
            merged.get_submodule(name).weight.add_(factor * up @ down)
    adapter.settle()
    assert set(adapter.scales().values()) == {factor}
    torch.testing.assert_close(unet_output(unet), unet_output(merged), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("second", ["fused", "peft"])
def test_a_second_adapter_is_refused_since_it_would_do_nothing(tiny_unet, second):
    attach(tiny_unet, "lora")
    with pytest.raises(AdapterError, match="has an adapter already"):
        attach(tiny_unet, "lora", second)
