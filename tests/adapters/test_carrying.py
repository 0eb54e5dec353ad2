from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rasengan_xl.adapters.applying import applied
from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.adapters.carrying import as_written, carry_over, is_for_rounded
from rasengan_xl.adapters.changes import Decomposed, Dense, on_layer
from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.adapters.files import save_adapter
from rasengan_xl.adapters.reading.any_form import read_adapter
from rasengan_xl.config.base_precisions import STORAGES
from rasengan_xl.config.settings import AdapterSettings
from rasengan_xl.engine.weights import read_weight
from rasengan_xl.sdxl.components import load_unet
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.int8_layers import is_int8
from rasengan_xl.sdxl.layers import layer_modules, list_layers
from rasengan_xl.sdxl.model_folder import find_model
from rasengan_xl.sdxl.stored_weights import StoredWeights

CPU = Compute(torch.device("cpu"), torch.float32)
IN_16_BITS = Compute(torch.device("cpu"), torch.bfloat16)
ROUNDED = ("nf4", "nf4-small", "int8")


@pytest.fixture(scope="module")
def model(tiny_model):
    return find_model(str(tiny_model))


@pytest.fixture(scope="module")
def stored(model):
    weights = StoredWeights(model)
    return lambda layer: weights.read(f"{layer}.weight")


@pytest.fixture(scope="module")
def trained(model, tmp_path_factory):
    """Return adapters by the precision of their base, as a run leaves them, and their gains."""
    known: dict[object, tuple[AdapterContents, dict[str, torch.Tensor]]] = {}

    def train(precision: str, compute=CPU) -> tuple[AdapterContents, dict[str, torch.Tensor]]:
        if (precision, compute) not in known:
            file = tmp_path_factory.mktemp("adapter") / "adapter.safetensors"
            known[precision, compute] = _train(model, precision, file, compute)
        return known[precision, compute]

    return train


def _train(model, precision: str, file: Path, compute):
    """Give an adapter random weights on a base, save it, and work its gains out by hand."""
    unet = load_unet(model, compute, precision)
    settings = AdapterSettings(base_precision=precision, decompose=True, rank=2, targets=("to_q",))
    adapter = attach_adapter(unet, settings, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weights in adapter.parameters.values():
            weights.add_(torch.randn(weights.shape, generator=generator), alpha=0.05)
    save_adapter(adapter, file)
    contents, gains = read_adapter(file, list_layers(model)), {}
    for name, layer in adapter.layers.items():
        change = contents.changes[f"unet.{name}"]
        weight = read_weight(layer.base).float()
        changed = weight + change.direction.difference(weight.shape, weight.device)
        gains[f"unet.{name}"] = change.magnitude / changed.norm(dim=1)
    return contents, gains


@pytest.mark.parametrize("precision", ["full", *ROUNDED])
def test_a_file_says_how_the_base_was_stored_and_the_gain_is_the_trained_one(
    precision, trained, stored
):
    contents, gains = trained(precision)
    store = STORAGES[precision].linears
    assert is_for_rounded(contents) == (precision != "full")
    for name, change in contents.changes.items():
        assert change.stored == store
        torch.testing.assert_close(change.gain(stored(name)).flatten(), gains[name])
        if store != "compute":
            other = replace(change, stored="compute").gain(stored(name)).flatten()
            assert (other - gains[name]).abs().max() > 1e-5, "without it, it would be another"


@pytest.mark.parametrize("on", ["full", *ROUNDED])
@pytest.mark.parametrize("precision", ["full", "nf4", "int8"])
def test_the_trained_gain_stays_on_whatever_base_it_is_put_on(
    precision, on, model, trained, stored
):
    contents, gains = trained(precision)
    fitted = carry_over(contents, on, torch.float32, stored)
    layers = layer_modules({"unet": load_unet(model, CPU, on)})
    for name, change in fitted.changes.items():
        weight = read_weight(layers[name])
        gain = on_layer(change, layers[name]).gain(weight).flatten()
        torch.testing.assert_close(gain, gains[name])
    same = on == "full" or STORAGES[on].linears == STORAGES[precision].linears
    assert (fitted is contents) == same
    assert same or "each row's gain stays as trained" in fitted.notes[-1]


@pytest.mark.parametrize("precision", ["nf4", "int8"])
def test_the_gain_is_the_trained_one_also_where_weights_were_in_16_bits_before(
    precision, model, trained, stored
):
    contents, gains = trained(precision, IN_16_BITS)
    assert {change.precision for change in contents.changes.values()} == {"bfloat16"}
    fitted = carry_over(contents, precision, torch.float32, stored)
    layers = layer_modules({"unet": load_unet(model, CPU, precision)})
    for name, change in contents.changes.items():
        torch.testing.assert_close(change.gain(stored(name)).flatten(), gains[name])
        gain = on_layer(fitted.changes[name], layers[name]).gain(read_weight(layers[name]))
        torch.testing.assert_close(gain.flatten(), gains[name])
    assert carry_over(contents, precision, torch.bfloat16, stored) is contents
    other = max(
        (replace(change, precision="float32").gain(stored(name)).flatten() - gains[name])
        .abs()
        .max()
        for name, change in contents.changes.items()
    )
    assert other > 1e-4, "without it, it would be another"


def test_the_gain_stays_on_a_base_too_coarse_to_be_rounded_again(model, trained, stored):
    contents, gains = trained("nf4")
    fitted = carry_over(contents, "full", torch.bfloat16, stored)
    layers = layer_modules({"unet": load_unet(model, IN_16_BITS, "full")})
    for name, change in fitted.changes.items():
        gain = on_layer(change, layers[name]).gain(read_weight(layers[name])).flatten()
        torch.testing.assert_close(gain, gains[name], rtol=1e-3, atol=0)


def test_a_convolution_is_fitted_to_its_own_store(model, stored):
    name, layer = next(
        (name, module)
        for name, module in layer_modules({"unet": load_unet(model, CPU, "nf4-small")}).items()
        if is_int8(module)
    )
    weight = stored(name).float()
    change = Decomposed(
        direction=Dense(change=0.1 * torch.randn_like(weight)),
        magnitude=torch.ones(len(weight)),
    )
    contents = AdapterContents(source=Path("a"), form="other", changes={name: change}, header={})
    fitted = carry_over(contents, "nf4-small", torch.float32, stored).changes[name]
    gain = on_layer(fitted, layer).gain(read_weight(layer))
    torch.testing.assert_close(gain, change.gain(weight))


@pytest.mark.parametrize("precision", ROUNDED)
def test_on_its_own_base_an_adapter_computes_as_while_it_was_trained(precision, model, trained):
    contents, gains = trained(precision)
    unet = load_unet(model, CPU, precision)
    name, change = next(iter(contents.changes.items()))
    layer = layer_modules({"unet": unet})[name]
    given = torch.randn(3, layer.in_features)
    with torch.no_grad():
        base = layer(given)
        with applied({"unet": unet}, [contents], [1.0]):
            found = layer(given)
    low = given @ change.direction.difference(read_weight(layer).shape, CPU.device).T
    torch.testing.assert_close(found, gains[name] * (base + low), rtol=1e-4, atol=1e-5)


def test_what_is_not_decomposed_is_for_any_base(trained, stored):
    contents, _ = trained("full")
    plain = replace(
        contents, changes={name: each.direction for name, each in contents.changes.items()}
    )
    assert carry_over(plain, "nf4", torch.float32, stored) is plain
    assert not is_for_rounded(plain)


def test_other_programs_take_magnitudes_as_they_are_written(trained):
    contents, _ = trained("nf4")
    written = as_written(contents)
    assert not is_for_rounded(written)
    for name, change in written.changes.items():
        assert isinstance(change, Decomposed)
        assert torch.equal(change.magnitude, contents.changes[name].magnitude)
