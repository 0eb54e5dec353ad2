import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors import safe_open
from safetensors.torch import save_file

from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.adapters.files import find_adapter, save_adapter
from rasengan_xl.adapters.reading.any_form import read_adapter
from rasengan_xl.adapters.starting import begin_from
from rasengan_xl.config.settings import AdapterSettings
from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.errors import AdapterError
from rasengan_xl.sdxl.components import load_unet
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.model_folder import find_model
from rasengan_xl.tensor_file import read_header

from .test_attach import unet_output

ALL_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")


@pytest.mark.parametrize("implementation", ["fused", "peft"])
@pytest.mark.parametrize(
    "kind",
    [{}, {"decompose": True}, {"rank_stabilized": True}, {"rank": 9, "rank_stabilized": True}],
    ids=["lora", "dora", "rslora", "rslora-9"],
)
def test_plain_diffusers_loads_a_saved_adapter_at_its_full_strength(
    tiny_model, tmp_path, kind, implementation
):
    trained = StableDiffusionXLPipeline.from_pretrained(tiny_model).unet
    settings = AdapterSettings(**{"rank": 4, "alpha": 16, "targets": ALL_TARGETS, **kind})
    adapter = attach_adapter(trained, settings, 1, EngineOptions(implementation=implementation))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in adapter.parameters.values():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    adapter.settle()
    save_adapter(adapter, tmp_path / "pytorch_lora_weights.safetensors")

    loaded = StableDiffusionXLPipeline.from_pretrained(tiny_model)
    base = unet_output(loaded.unet)
    loaded.load_lora_weights(tmp_path)
    loaded.unet.eval()
    trained.eval()
    assert (unet_output(trained) - base).abs().max() > 1e-2
    # Our own layers add up in another order.
    tolerance = 0 if implementation == "peft" else 2e-6
    torch.testing.assert_close(
        unet_output(loaded.unet), unet_output(trained), rtol=0, atol=tolerance
    )


@pytest.mark.parametrize("kind", [{}, {"decompose": True}], ids=["lora", "dora"])
@pytest.mark.parametrize("first", ["fused", "peft"])
def test_what_one_implementation_saves_the_other_goes_on_from(mini_base, tmp_path, kind, first):
    settings = AdapterSettings(**{"rank": 4, "alpha": 16, "targets": ALL_TARGETS, **kind})
    second = {"fused": "peft", "peft": "fused"}[first]
    saved, begun = (
        attach_adapter(build_mini_unet(), settings, seed, EngineOptions(implementation=each))
        for seed, each in enumerate((first, second))
    )
    with torch.no_grad():
        for weights in saved.parameters.values():
            weights.mul_(1.1).add_(0.01)
    saved.settle()
    save_adapter(saved, tmp_path / "a.safetensors")
    contents = read_adapter(tmp_path / "a.safetensors", mini_base.layers)
    begin_from(begun, contents, settings, seed=5)
    assert begun.parameters.keys() == saved.parameters.keys()
    for name, weights in saved.parameters.items():
        torch.testing.assert_close(begun.parameters[name], weights, rtol=1e-6, atol=0)
    save_adapter(begun, tmp_path / "b.safetensors")
    assert read_header(tmp_path / "b.safetensors") == read_header(tmp_path / "a.safetensors")


def build_mini_unet():
    return load_unet(find_model("mini"), Compute(torch.device("cpu"), torch.float32), "full")


def test_every_key_of_the_file_has_pefts_own_form(tiny_unet, tmp_path):
    adapter = attach_adapter(tiny_unet, AdapterSettings(rank=2, decompose=True), seed=0)
    save_adapter(adapter, tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", framework="pt") as content:
        keys = set(content.keys())
        assert "lora_adapter_metadata" in content.metadata()
    assert len(keys) == len(adapter.parameters)
    endings = ("lora_A.weight", "lora_B.weight", "lora_magnitude_vector")
    assert all(key.startswith("unet.") and key.endswith(endings) for key in keys)


def test_a_folder_without_an_adapter_is_refused(tmp_path):
    with pytest.raises(AdapterError, match="no adapter here"):
        find_adapter(tmp_path)


def test_a_file_that_is_no_safetensors_is_refused(tmp_path):
    (tmp_path / "a.safetensors").write_text("hello")
    with pytest.raises(AdapterError, match="not a safetensors file"):
        find_adapter(tmp_path / "a.safetensors")


def test_a_file_without_an_adapters_keys_is_refused(tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(AdapterError, match="holds no adapter"):
        find_adapter(tmp_path / "a.safetensors")
