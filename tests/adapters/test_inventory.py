import pytest
import torch

from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.adapters.inventory import (
    count_all_parameters,
    count_parameters,
    predict_trainable_parameters,
)
from rasengan_xl.config.recipe import load_recipe
from rasengan_xl.config.settings import AdapterSettings
from rasengan_xl.errors import AdapterError
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.full_size import build_full_size_unet
from rasengan_xl.sdxl.quantization import linears_to_quantize, quantize

from ..conftest import build_tiny_unet


@pytest.fixture
def full_size_unet():
    with torch.device("meta"):
        return build_full_size_unet()


def test_the_full_size_unet_has_as_many_parameters_as_sdxl(full_size_unet):
    assert count_parameters(full_size_unet) == 2_567_463_684


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("lora", 23_224_320),
        ("qlora-normal", 23_224_320),
        ("qlora-aggressive", 83_722_240),
        ("dora", 23_889_920),
    ],
)
def test_each_shipped_arm_trains_the_designed_number_of_weights(full_size_unet, recipe, expected):
    settings = load_recipe(recipe).adapter
    assert predict_trainable_parameters(full_size_unet, settings) == expected
    assert attach_adapter(full_size_unet, settings, seed=0).parameter_count == expected


def test_nf4_stores_the_designed_number_of_weights(full_size_unet):
    stored = sum(linear.weight.numel() for _, linear in linears_to_quantize(full_size_unet))
    assert stored == 2_232_647_680


def test_a_quantized_unet_counts_the_weights_it_stands_for():
    plain, quantized = build_tiny_unet(), build_tiny_unet()
    quantize(quantized, Compute(torch.device("cpu"), torch.float32), "nf4")
    assert count_parameters(quantized) == count_parameters(plain)


@pytest.mark.parametrize(
    "changes",
    [
        {"rank": 3},
        {"rank": 5, "decompose": True},
        {"rank": 2, "targets": ("to_k", "to_out.0", "ff.net.0.proj")},
        {"rank": 4, "base_precision": "nf4", "decompose": True, "targets": ("to_v", "ff.net.2")},
    ],
)
def test_the_prediction_is_what_attaching_counts(tiny_unet, changes):
    settings = AdapterSettings(**changes)
    if settings.base_precision == "nf4":
        quantize(tiny_unet, Compute(torch.device("cpu"), torch.float32), "nf4")
    predicted = predict_trainable_parameters(tiny_unet, settings)
    adapter = attach_adapter(tiny_unet, settings, seed=0)
    assert adapter.parameter_count == predicted
    assert count_all_parameters(adapter) == count_parameters(tiny_unet) + predicted


def test_a_target_without_a_layer_is_not_predicted(tiny_unet):
    with pytest.raises(AdapterError, match="matches no layer"):
        predict_trainable_parameters(tiny_unet, AdapterSettings(targets=("to_z",)))
