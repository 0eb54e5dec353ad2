from pathlib import Path

import pytest
import torch

from rasengan_xl.adapters.applying import applied
from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.adapters.changes import Decomposed, Dense, Hadamard, Kronecker, LowRank
from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.adapters.inventory import predict_trainable_parameters
from rasengan_xl.adapters.start_shape import given_shape, name_targets, trainable_shape
from rasengan_xl.adapters.starting import begin_from
from rasengan_xl.config.settings import AdapterSettings
from rasengan_xl.errors import AdapterError
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.quantization import quantize

from ..conftest import build_tiny_unet
from .test_attach import unet_output

BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0"
LINEAR = (f"{BLOCK}.attn1.to_q", f"{BLOCK}.attn2.to_k", f"{BLOCK}.ff.net.0.proj")
CONVOLUTION = "down_blocks.0.resnets.0.conv1"
CPU = Compute(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def shapes():
    unet = build_tiny_unet()
    return {name: unet.get_submodule(name).weight.shape for name in (*LINEAR, CONVOLUTION)}


def draw(*shape, size=0.2):
    return size * torch.randn(shape)


def lora(shape, rank=3, **changes):
    ones = (1,) * (len(shape) - 2)
    return LowRank(
        down=draw(rank, *shape[1:]),
        up=draw(shape[0], rank, *ones),
        **{"alpha": 5.0, **changes},
    )


def dora(shape, **changes):
    axis = changes.get("axis", "output")
    count = shape[0] if axis == "output" else shape[1]
    return Decomposed(direction=lora(shape), magnitude=0.5 + torch.rand(count), **changes)


def loha(shape):
    pairs = [(draw(shape[0], 2), draw(2, shape[1])) for _ in range(2)]
    return Hadamard(first=pairs[0], second=pairs[1], alpha=3.0)


def locon_with_core(shape):
    return LowRank(
        down=draw(3, shape[1], 1, 1),
        mid=draw(3, 3, *shape[2:]),
        up=draw(shape[0], 3, 1, 1),
        alpha=2.0,
    )


def contents_of(changes):
    named = {f"unet.{name}": change for name, change in changes.items()}
    return AdapterContents(source=Path("their.safetensors"), form="kohya", changes=named, header={})


def start(contents, settings=None, *, nf4=False):
    """Return the UNet with the adapter, its settings, and what was told."""
    torch.manual_seed(0)
    unet = build_tiny_unet()
    if nf4:
        quantize(unet, CPU, "nf4")
    shaped = trainable_shape(contents, settings or AdapterSettings(rank=4, alpha=4), unet)
    adapter = attach_adapter(unet, shaped, seed=1)
    return adapter, shaped, begin_from(adapter, contents, shaped, seed=1)


def assert_outputs_match(adapter, contents):
    plain = plain_of(adapter)
    base = unet_output(plain)
    with applied({"unet": plain}, [contents], [1.0], fuse=False):
        wanted = unet_output(plain)
    assert (wanted - base).abs().max() > 1e-3, "the adapter does nothing"
    torch.testing.assert_close(unet_output(adapter.unet), wanted, rtol=1e-4, atol=1e-4)


def plain_of(adapter):
    """A UNet of the same weights without PEFT's layers."""
    torch.manual_seed(0)
    unet = build_tiny_unet()
    if getattr(adapter.unet, "is_loaded_in_4bit", False):
        quantize(unet, CPU, "nf4")
    return unet


AS_IT_IS = {
    "LoRA": lambda s: {n: lora(s[n]) for n in LINEAR},
    "rsLoRA": lambda s: {n: lora(s[n], rank_stabilized=True) for n in LINEAR},
    "ranks of layers": lambda s: {n: lora(s[n], rank=r + 1) for r, n in enumerate(LINEAR)},
    "both scales": lambda s: {n: lora(s[n], rank_stabilized=n == LINEAR[0]) for n in LINEAR},
    "convolution": lambda s: {n: lora(s[n]) for n in (*LINEAR, CONVOLUTION)},
    "core": lambda s: {CONVOLUTION: locon_with_core(s[CONVOLUTION])},
    "DoRA": lambda s: {n: dora(s[n]) for n in LINEAR},
}


@pytest.mark.parametrize("kind", AS_IT_IS)
def test_lora_and_dora_are_trained_on_as_they_are(shapes, kind):
    contents = contents_of(AS_IT_IS[kind](shapes))
    adapter, settings, told = start(contents)
    assert_outputs_match(adapter, contents)
    assert len(told) == 1
    assert "kohya" in told[0]
    trained = adapter.parameter_count
    assert trained == predict_trainable_parameters(build_tiny_unet(), settings)
    if kind != "core":
        assert trained == contents.parameter_count


def test_weights_of_a_file_are_taken_over_to_the_bit(shapes):
    changes = {n: dora(shapes[n]) for n in LINEAR}
    adapter, settings, _ = start(contents_of(changes))
    assert (settings.rank, settings.alpha, settings.decompose) == (3, 5, True)
    for name, change in changes.items():
        for part, wanted in (
            ("lora_A", change.direction.down),
            ("lora_B", change.direction.up),
            ("lora_magnitude_vector", change.magnitude),
        ):
            assert torch.equal(adapter.parameters[f"{name}.{part}.default.weight"], wanted)


@pytest.mark.parametrize("convention", [{"norm_of": "base"}, {"epsilon": 0.25}])
def test_magnitudes_of_another_convention_are_rescaled_and_that_is_told(shapes, convention):
    contents = contents_of({n: dora(shapes[n], **convention) for n in LINEAR})
    adapter, settings, told = start(contents)
    assert settings.decompose
    assert_outputs_match(adapter, contents)
    assert "3 of 3 layers divide their magnitudes by another norm" in told[1]


TURNED = {
    "LoHa": loha,
    "LoKr": lambda shape: Kronecker(
        first=(draw(4, 4),), second=(draw(shape[0] // 4, shape[1] // 4),), alpha=1.0
    ),
    "DoRA by input": lambda shape: dora(shape, axis="input"),
    "full difference": lambda shape: Dense(change=draw(*shape)),
}


@pytest.mark.parametrize("kind", TURNED)
def test_what_is_not_trained_is_turned_into_lora_of_the_recipes_rank(shapes, kind):
    contents = contents_of({n: TURNED[kind](shapes[n]) for n in LINEAR[:2]})
    whole = AdapterSettings(rank=64, alpha=7)
    adapter, settings, told = start(contents, whole)
    assert (settings.rank, settings.alpha, settings.layer_shapes) == (64, 7, ())
    assert_outputs_match(adapter, contents)
    assert "2 of 2 layers" in told[1]
    assert "0.00% of their change is lost" in told[1]
    _, _, told = start(contents, AdapterSettings(rank=1))
    assert "0.00% of their change is lost" not in told[1]


def test_only_the_layers_that_need_it_are_turned(shapes):
    changes = {n: lora(shapes[n]) for n in LINEAR[:2]} | {LINEAR[2]: loha(shapes[LINEAR[2]])}
    adapter, settings, told = start(contents_of(changes), AdapterSettings(rank=8, alpha=2))
    assert (settings.rank, settings.alpha) == (3, 5)
    assert [tuple(s.model_dump().values()) for s in settings.layer_shapes] == [(LINEAR[2], 8, 2)]
    assert "1 of 3 layers" in told[1]
    assert_outputs_match(adapter, contents_of(changes))


def test_a_recipe_that_decomposes_goes_on_with_dora_from_what_is_turned(shapes):
    contents = contents_of({n: loha(shapes[n]) for n in LINEAR[:2]})
    adapter, settings, _ = start(contents, AdapterSettings(rank=64, decompose=True))
    assert settings.decompose
    assert_outputs_match(adapter, contents)


def test_what_fills_a_rank_up_changes_nothing_and_can_be_trained(shapes):
    layer = LINEAR[0]
    change = Dense(change=draw(shapes[layer][0], 1) @ draw(1, shapes[layer][1]))
    contents = contents_of({layer: change})
    adapter, _, _ = start(contents, AdapterSettings(rank=70))  # of a layer with 64 outputs
    assert_outputs_match(adapter, contents)
    up = adapter.parameters[f"{layer}.lora_B.default.weight"]
    down = adapter.parameters[f"{layer}.lora_A.default.weight"]
    assert torch.equal(up[:, 64:], torch.zeros(64, 6))
    assert bool((up.any(dim=0) | down.any(dim=1)).all())


def test_an_adapter_that_lacks_layers_of_the_other_is_refused(shapes, tiny_unet):
    settings = AdapterSettings(targets=LINEAR[:1])
    adapter = attach_adapter(tiny_unet, settings, seed=1)
    contents = contents_of({n: lora(shapes[n]) for n in LINEAR[:2]})
    with pytest.raises(AdapterError, match=f"leave out {LINEAR[1]}, which their.safetensors"):
        begin_from(adapter, contents, settings, seed=1)


def test_what_fills_a_rank_up_does_not_depend_on_global_chance(shapes):
    layer = LINEAR[0]
    change = Dense(change=draw(shapes[layer][0], 1) @ draw(1, shapes[layer][1]))
    drawn: list[torch.Tensor] = []
    for _ in range(2):
        unet = build_tiny_unet()
        settings = AdapterSettings(rank=70, targets=(layer,))
        adapter = attach_adapter(unet, settings, seed=1)
        torch.rand(5)  # of another process, or of a run that went on elsewhere
        begin_from(adapter, contents_of({layer: change}), settings, seed=1)
        drawn.append(adapter.parameters[f"{layer}.lora_A.default.weight"].clone())
    assert torch.equal(drawn[0][64:], drawn[1][64:])


@pytest.mark.parametrize("kind", ["LoRA", "DoRA"])
def test_a_quantized_base_starts_from_a_file_as_well(shapes, kind):
    contents = contents_of(AS_IT_IS[kind](shapes))
    adapter, _, _ = start(contents, nf4=True)
    assert_outputs_match(adapter, contents)


def test_targets_are_named_by_the_shortest_endings_that_fit_nothing_else(tiny_unet):
    everywhere = [n for n, _ in tiny_unet.named_modules() if n.endswith((".to_q", ".to_out.0"))]
    assert name_targets(tiny_unet, everywhere) == ("to_q", "to_out.0")
    assert name_targets(tiny_unet, everywhere, ("to_out.0", "to_q")) == ("to_out.0", "to_q")
    assert name_targets(tiny_unet, LINEAR[:1]) == (
        "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
    )


def test_the_shape_of_a_given_adapter_is_told_whatever_its_kind(shapes, tiny_unet):
    changes = {
        LINEAR[0]: loha(shapes[LINEAR[0]]),
        LINEAR[1]: Dense(change=draw(*shapes[LINEAR[1]])),
    }
    settings = given_shape(contents_of(changes), AdapterSettings(rank=9), tiny_unet)
    assert (settings.rank, settings.alpha) == (2, 3)
    assert [(s.layer, s.rank) for s in settings.layer_shapes] == [(LINEAR[1], 64)]
