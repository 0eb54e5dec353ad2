import json
import mmap
import shutil
import weakref

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from rasengan_xl.errors import AdapterError, ModelError, OutputError
from rasengan_xl.sdxl import stored_weights
from rasengan_xl.sdxl.merged_file import write_single_file
from rasengan_xl.sdxl.merged_folder import write_diffusers_folder
from rasengan_xl.sdxl.model_folder import find_model
from rasengan_xl.sdxl.stored_weights import StoredWeights
from rasengan_xl.tensor_file import read_header, read_tensors, write_tensors

from ..exhaust import collect
from .conftest import add_low_rank

TITLE = {"modelspec.title": "Shinobi", "modelspec.hash_sha256": ""}
ATTENTION = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"


def merge(model, file, change=add_low_rank, dtype=torch.float32, **options):
    return collect(write_single_file(model, change, file, dtype, TITLE, **options))


@pytest.fixture(scope="module")
def merged(uneven_model, tmp_path_factory):
    return merge(uneven_model, tmp_path_factory.mktemp("merged") / "shinobi.safetensors")


@pytest.fixture(scope="module")
def pipeline(uneven_model, merged):
    return StableDiffusionXLPipeline.from_single_file(
        str(merged[1].path),
        config=str(uneven_model.path),
        local_files_only=True,
        torch_dtype=torch.float32,
    )


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "text_encoder_2"])
def test_diffusers_loads_base_plus_change_bit_for_bit(uneven_model, pipeline, part):
    stored = StoredWeights(uneven_model)
    loaded = {
        f"{part}.{'text_model.' if part == 'text_encoder' else ''}{name}": parameter
        for name, parameter in getattr(pipeline, part).named_parameters()
    }
    assert sorted(loaded) == sorted(stored.names(part))
    for name, parameter in loaded.items():
        base = stored.read(name)
        wanted = base if part == "vae" else add_low_rank(name, base)
        assert torch.equal(parameter, wanted.float()), name


def draw(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        "a ninja at night",
        width=32,
        height=32,
        num_inference_steps=2,
        output_type="pt",
        generator=torch.Generator().manual_seed(5),
    ).images


def test_it_draws_what_the_merged_folder_draws_and_not_what_the_base_does(
    uneven_model, pipeline, tmp_path
):
    folder = tmp_path / "folder"
    list(write_diffusers_folder(uneven_model, add_low_rank, folder, torch.float32, {}))
    same, base = (
        draw(StableDiffusionXLPipeline.from_pretrained(path, local_files_only=True))
        for path in (folder, uneven_model.path)
    )
    drawn = draw(pipeline)
    assert torch.equal(drawn, same)
    assert (drawn - base).abs().max() > 0.05


def test_it_says_what_was_changed_and_how_far_it_is(uneven_model, merged):
    records, model = merged
    stored = StoredWeights(uneven_model)
    wanted = [
        name
        for name in stored.names()
        if not name.startswith("vae.") and add_low_rank(name, base := stored.read(name)) is not base
    ]
    assert sorted(model.changed) == sorted(wanted)
    assert ATTENTION in model.changed
    assert [record.done for record in records] == list(range(model.tensors + 1))
    assert {record.total for record in records} == {model.tensors}
    assert len(read_tensors(model.path)) == model.tensors
    header = read_header(model.path)
    assert header["modelspec.title"] == "Shinobi"
    assert header["modelspec.hash_sha256"].startswith("0x")


def test_encoders_that_diffusers_would_take_for_each_other_are_told_of(
    tiny_model, merged, tmp_path
):
    records, _ = merge(find_model(str(tiny_model)), tmp_path / "a.safetensors")
    assert "both text encoders are 64 wide" in records[0].note
    assert not any(record.note for record in (*records[1:], *merged[0]))


def test_the_vae_keeps_its_precision_and_the_rest_has_the_one_asked_for(uneven_model, tmp_path):
    _, model = merge(uneven_model, tmp_path / "half.safetensors", dtype=torch.bfloat16)
    for name, tensor in read_tensors(model.path).items():
        is_kept = name.startswith("first_stage_model.")
        wanted = torch.int64 if "position_ids" in name else torch.bfloat16
        assert tensor.dtype == (torch.float16 if is_kept else wanted), name


def test_at_most_one_joined_tensor_of_the_base_is_held(uneven_model, tmp_path, monkeypatch):
    held = []
    most = 0

    class Watched(mmap.mmap):
        def __init__(self, *_, **__):
            nonlocal most
            held.append(weakref.ref(self))
            most = max(most, sum(memory() is not None for memory in held))

    monkeypatch.setattr(stored_weights.mmap, "mmap", Watched)
    _, model = merge(uneven_model, tmp_path / "a.safetensors")
    assert len(held) > model.tensors  # q, k and v of the second encoder are read for one
    assert most == 3


def test_a_velocity_model_is_marked_as_one(uneven_model, tmp_path):
    folder = shutil.copytree(uneven_model.path, tmp_path / "velocity")
    file = folder / "scheduler" / "scheduler_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "prediction_type": "v_prediction"}))
    velocity = find_model(str(folder))
    _, plain = merge(velocity, tmp_path / "a.safetensors")
    _, from_noise = merge(velocity, tmp_path / "b.safetensors", zero_terminal_snr=True)
    marks = [{"v_pred", "ztsnr"} & set(read_tensors(made.path)) for made in (plain, from_noise)]
    assert marks == [{"v_pred"}, {"v_pred", "ztsnr"}]
    with pytest.raises(ModelError, match="predicts epsilon"):
        merge(uneven_model, tmp_path / "c.safetensors", zero_terminal_snr=True)


def spoiled(value):
    def change(name, base):
        if name != ATTENTION:
            return base
        changed = base.float()
        changed[1, 2] = value
        return changed

    return change


@pytest.mark.parametrize(
    ("change", "kind", "complaint"),
    [
        (spoiled(70_000.0), OutputError, r"attn1\.to_q\.weight: reaches 7e\+04 .* float16 holds"),
        (spoiled(torch.nan), AdapterError, r"attn1\.to_q\.weight: is not finite once"),
        (lambda _, base: base[..., :1].float(), AdapterError, "the adapter's change is"),
    ],
)
def test_what_cannot_be_written_is_named_and_nothing_is_left(
    uneven_model, tmp_path, change, kind, complaint
):
    with pytest.raises(kind, match=complaint) as caught:
        merge(uneven_model, tmp_path / "a.safetensors", change, torch.float16)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_base_that_is_not_finite_is_not_blamed_on_the_adapter(uneven_model, tmp_path):
    folder = shutil.copytree(uneven_model.path, tmp_path / "broken")
    broken = find_model(str(folder))
    place = StoredWeights(broken).describe(ATTENTION)
    with place.file.open("r+b") as file:
        file.seek(place.begin)
        file.write(b"\x00\x7c")  # infinity in float16
    with pytest.raises(ModelError, match=rf"broken: {ATTENTION} holds a value"):
        merge(broken, tmp_path / "a.safetensors")


def test_a_merge_that_is_broken_off_leaves_nothing(uneven_model, tmp_path):
    work = write_single_file(
        uneven_model, add_low_rank, tmp_path / "a.safetensors", torch.float16, {}
    )
    for _ in range(50):
        next(work)
    assert list(tmp_path.iterdir())
    work.close()
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_not_written_over_and_other_names_are_refused(uneven_model, tmp_path):
    (tmp_path / "a.safetensors").write_text("kept")
    with pytest.raises(OutputError, match=r"a\.safetensors: is there already"):
        merge(uneven_model, tmp_path / "a.safetensors")
    with pytest.raises(OutputError, match=r"a\.ckpt: a single-file checkpoint is named"):
        merge(uneven_model, tmp_path / "a.ckpt")
    assert (tmp_path / "a.safetensors").read_text() == "kept"


def test_a_unet_that_is_not_whole_is_refused(uneven_model, tmp_path):
    folder = shutil.copytree(uneven_model.path, tmp_path / "broken")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    kept = read_tensors(file)
    bias = kept.pop("conv_out.bias")
    write_tensors(file, kept)
    with pytest.raises(ModelError, match=r"has no unet\.conv_out\.bias"):
        merge(find_model(str(folder)), tmp_path / "a.safetensors")
    write_tensors(file, {**kept, "conv_out.bias": bias[:2]})
    with pytest.raises(ModelError, match=r"unet\.conv_out\.bias is \[2\], its config"):
        merge(find_model(str(folder)), tmp_path / "a.safetensors")
