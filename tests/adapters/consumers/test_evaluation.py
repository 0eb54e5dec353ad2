import pytest
import torch
from safetensors.torch import load_file, save_file

from rasengan_xl.adapters.consumers.a1111 import a1111_changes
from rasengan_xl.adapters.consumers.comfyui import comfyui_changes
from rasengan_xl.adapters.consumers.kohya import kohya_changes
from rasengan_xl.adapters.consumers.peft import peft_changes
from rasengan_xl.adapters.consumers.targets import find_target
from rasengan_xl.adapters.low_rank import Limits
from rasengan_xl.adapters.writing.adapter_file import write_adapter
from rasengan_xl.adapters.writing.conversion import ExportOptions
from rasengan_xl.adapters.writing.peft_form import peft_header
from rasengan_xl.errors import OutputError

from ..writing.random_contents import ATTENTION, TEXT, finish, random_contents

READERS = {"kohya": kohya_changes, "comfyui": comfyui_changes, "a1111": a1111_changes}
PROJECTION = "text_encoder_2.text_projection"


def export(base, layers, file, consumer):
    options = ExportOptions(target=find_target(consumer), limits=Limits(residual=0.01))
    contents = random_contents(base, "lora", layers)
    return finish(write_adapter(contents, base, file, options, lambda _: {}))


@pytest.mark.parametrize("consumer", READERS)
@pytest.mark.parametrize("stranger", ["lora_unet_nothing.alpha", f"{ATTENTION[0]}.lora_A.weight"])
def test_a_tensor_that_a_program_would_pass_over_is_told(mini_base, tmp_path, consumer, stranger):
    file = tmp_path / "a.safetensors"
    export(mini_base, ATTENTION, file, consumer)
    save_file({**load_file(file), stranger: torch.ones(1)}, tmp_path / "b.safetensors")
    with pytest.raises(OutputError, match=f"{stranger}: the program .* pass it over"):
        READERS[consumer](tmp_path / "b.safetensors", mini_base.layers)


@pytest.mark.parametrize("layer", ["unet.conv_in", "unet.time_embedding.linear_1"])
def test_kohya_alone_passes_over_layers_outside_of_blocks(mini_base, tmp_path, layer):
    for consumer in ("comfyui", "a1111", "diffusers"):
        export(mini_base, (layer,), tmp_path / f"{consumer}.safetensors", consumer)
    with pytest.raises(OutputError, match="pass it over; export --to diffusers or merged"):
        export(mini_base, (layer,), tmp_path / "kohya.safetensors", "kohya")
    assert not (tmp_path / "kohya.safetensors").exists()


@pytest.mark.parametrize("consumer", READERS)
def test_the_text_projection_has_no_place_in_these_forms(mini_base, tmp_path, consumer):
    with pytest.raises(OutputError, match=f"{PROJECTION}: the programs that read this form cannot"):
        export(mini_base, (PROJECTION,), tmp_path / "a.safetensors", consumer)


def test_transformers_drops_the_magnitudes_of_text_encoders(mini_base, tmp_path):
    file = tmp_path / "a.safetensors"
    export(mini_base, TEXT[:1], file, "diffusers")
    name = f"{TEXT[0]}.lora_magnitude_vector"
    magnitude = torch.ones(mini_base.layers.shapes[TEXT[0]][0])
    save_file({**load_file(file), name: magnitude}, tmp_path / "b.safetensors", peft_header({}))
    with pytest.raises(OutputError, match=f"{name}: the program"):
        peft_changes(tmp_path / "b.safetensors", mini_base.layers)
