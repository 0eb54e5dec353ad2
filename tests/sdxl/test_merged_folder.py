import json

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from rasengan_xl.config.settings import ComputeSettings
from rasengan_xl.errors import OutputError
from rasengan_xl.sdxl import merged_folder
from rasengan_xl.sdxl.components import load_text_encoders, load_unet, load_vae
from rasengan_xl.sdxl.compute import choose_compute
from rasengan_xl.sdxl.merged_folder import write_diffusers_folder
from rasengan_xl.sdxl.model_folder import find_model, read_scheduler_config
from rasengan_xl.sdxl.stored_weights import StoredWeights
from rasengan_xl.tensor_file import read_header

from ..exhaust import collect
from .conftest import add_low_rank

CPU = choose_compute(ComputeSettings(device="cpu"))


def merge(model, folder, dtype=torch.float32, **options):
    title = {"title": "Shinobi"}
    return collect(write_diffusers_folder(model, add_low_rank, folder, dtype, title, **options))


@pytest.fixture(scope="module")
def merged(uneven_model, tmp_path_factory):
    """Written in shards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merged_folder, "SHARD_BYTES", 400_000)
        return merge(uneven_model, tmp_path_factory.mktemp("merged") / "deep" / "shinobi")


def assert_merged(base, parts):
    stored = StoredWeights(base)
    for part, module in parts.items():
        loaded = {
            f"{part}.{'text_model.' if part == 'text_encoder' else ''}{name}": parameter
            for name, parameter in module.named_parameters()
        }
        assert sorted(loaded) == sorted(stored.names(part))
        for name, parameter in loaded.items():
            kept = stored.read(name)
            wanted = kept if part == "vae" else add_low_rank(name, kept)
            assert torch.equal(parameter, wanted.float()), name


def test_our_loading_finds_base_plus_change_bit_for_bit(uneven_model, merged):
    model = find_model(str(merged[1].path))
    first, second = load_text_encoders(model, CPU)
    parts = {"text_encoder": first, "text_encoder_2": second}
    parts |= {"unet": load_unet(model, CPU, "full"), "vae": load_vae(model, CPU.device)}
    assert_merged(uneven_model, parts)


def test_diffusers_finds_base_plus_change_bit_for_bit(uneven_model, merged):
    pipeline = StableDiffusionXLPipeline.from_pretrained(merged[1].path, local_files_only=True)
    parts = ("unet", "vae", "text_encoder", "text_encoder_2")
    assert_merged(uneven_model, {part: getattr(pipeline, part) for part in parts})


def test_long_files_are_written_in_shards_with_an_index(merged):
    folder = merged[1].path
    files = sorted((folder / "unet").glob("*.safetensors"))
    assert len(files) > 1
    assert files[0].name == f"diffusion_pytorch_model-00001-of-{len(files):05}.safetensors"
    assert all(file.stat().st_size < 500_000 for file in files[:-1])
    index = json.loads(
        (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").read_text()
    )
    weights = StoredWeights(find_model(str(folder)))
    sizes = {name: weights.describe(name).nbytes for name in weights.names("unet")}
    assert index["metadata"]["total_size"] == sum(sizes.values())
    assert {f"unet.{name}" for name in index["weight_map"]} == set(sizes)
    assert read_header(files[0])["title"] == "Shinobi"


def test_progress_ends_with_the_last_tensor(uneven_model, merged):
    records, model = merged
    assert model.tensors == len(StoredWeights(uneven_model).names())
    assert [record.done for record in records] == list(range(model.tensors + 1))
    assert model.changed


def test_half_precision_is_one_file_a_part_and_is_loaded_as_such(uneven_model, tmp_path):
    folder = merge(uneven_model, tmp_path / "half", torch.float16)[1].path
    files = {path.name for path in folder.rglob("*.safetensors")}
    assert files == {"model.safetensors", "diffusion_pytorch_model.safetensors"}
    config = json.loads((folder / "text_encoder_2" / "config.json").read_text())
    assert config["dtype"] == "float16"
    assert StoredWeights(find_model(str(folder))).describe("unet.conv_in.weight").dtype == (
        torch.float16
    )


def test_an_adapter_that_begins_from_pure_noise_takes_the_scheduler_along(uneven_model, tmp_path):
    folder = merge(uneven_model, tmp_path / "a", zero_terminal_snr=True)[1].path
    config = read_scheduler_config(find_model(str(folder)))
    before = read_scheduler_config(uneven_model)
    assert config == before | {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    assert config != before


def test_a_merge_that_is_broken_off_leaves_nothing(uneven_model, tmp_path):
    work = write_diffusers_folder(uneven_model, add_low_rank, tmp_path / "a", torch.float16, {})
    for _ in range(50):
        next(work)
    assert list(tmp_path.iterdir())
    work.close()
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_not_written_over(uneven_model, tmp_path):
    with pytest.raises(OutputError, match="is there already"):
        merge(uneven_model, tmp_path)
