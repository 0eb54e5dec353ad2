import json
import re
import shutil

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image

from rasengan_xl.adapters.files import file_key, save_adapter
from rasengan_xl.adapters.writing.several import export_adapters
from rasengan_xl.cli.console import follow
from rasengan_xl.config.recipe import validate_run
from rasengan_xl.config.requests import drawing_settings, export_settings
from rasengan_xl.errors import AdapterError, ModelError, OutputError, RecipeError
from rasengan_xl.generation import easel
from rasengan_xl.generation.checkpoint_adapters import adapter_of_checkpoint
from rasengan_xl.generation.generate import Wanted, generate_pictures
from rasengan_xl.generation.prompts import as_lines
from rasengan_xl.generation.sheet import DrawnPicture
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.tensor_file import read_header, read_tensors, write_tensors

from .conftest import move, random_adapter, training_state

PROMPTS = ["a ninja with red hair", "a person at night"]


def generate(adapters, out, *, prompts=PROMPTS, base_model=None, **changes):
    wanted = Wanted(
        adapters=adapters,
        base_model=base_model,
        lines=as_lines(prompts),
        settings=drawing_settings(**{"sampler_steps": 2, "guidance": 4.0, **changes}),
        out=out,
    )
    return follow(generate_pictures(wanted), lambda _: None)


def pixels(file):
    with Image.open(file) as picture:
        return np.asarray(picture).astype(int)


def by_subject(drawn, row=0):
    return {each.subject: pixels(each.file) for each in drawn.pictures if each.row == row}


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_plain_diffusers_draws_the_same_with_the_adapter(method, request, tiny_model, tmp_path):
    run = request.getfixturevalue(f"{method}_run")
    drawn = generate([run.path], tmp_path)
    assert [each.subject for each in drawn.pictures] == ["base"] * 2 + [f"my-{method}"] * 2
    plain = StableDiffusionXLPipeline.from_pretrained(tiny_model)
    plain.load_lora_weights(run.path)
    for row, prompt in enumerate(PROMPTS):
        expected = plain(
            prompt,
            num_inference_steps=2,
            guidance_scale=4.0,
            generator=torch.Generator().manual_seed(0),
            height=32,
            width=32,
        ).images[0]
        pictures = by_subject(drawn, row)
        assert np.abs(pictures[f"my-{method}"] - np.asarray(expected)).max() <= 2
        assert np.abs(pictures[f"my-{method}"] - pictures["base"]).max() > 2


ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


@pytest.mark.parametrize("feed_forward", [(), ("ff.net.0.proj", "ff.net.2")])
@pytest.mark.parametrize(
    "method", [{}, {"base_precision": "nf4"}, {"decompose": True}], ids=["lora", "qlora", "dora"]
)
def test_plain_diffusers_draws_the_same_with_what_is_exported(
    method, feed_forward, tiny_model, picture_folder, tmp_path
):
    shape = {**method, "targets": (*ATTENTION, *feed_forward)}
    run, out = RunFolder(tmp_path / "run"), tmp_path / "exported.safetensors"
    dataset = {"source": str(picture_folder), "resolution": 32, "bucket_multiple": 8}
    tree = {"base_model": str(tiny_model), "dataset": dataset}
    run.start(validate_run({**tree, "adapter": {**shape, "rank": 2, "alpha": 4}}, "test"))
    save_adapter(random_adapter(tiny_model, seed=1, **shape), run.adapter_file)
    written = export_adapters([run.path], None, out, export_settings(to="diffusers"))
    assert follow(written, lambda _: None).approximated == ()

    pictures = by_subject(generate([run.path], tmp_path, prompts=PROMPTS[:1]))
    plain = StableDiffusionXLPipeline.from_pretrained(tiny_model)
    plain.load_lora_weights(out)
    seed = torch.Generator().manual_seed(0)
    steps = {"num_inference_steps": 2, "guidance_scale": 4.0, "generator": seed}
    expected = np.asarray(plain(PROMPTS[0], height=32, width=32, **steps).images[0])
    assert np.abs(pictures["run"] - expected).max() <= 2
    assert np.abs(pictures["run"] - pictures["base"]).max() > 2


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_a_sweep_goes_from_the_base_to_the_adapter_exactly(method, request, tmp_path):
    run = request.getfixturevalue(f"{method}_run")
    plain = by_subject(generate([run.path], tmp_path, prompts=PROMPTS[:1]))
    sweep = generate([run.path], tmp_path, prompts=PROMPTS[:1], strengths="0,0.5,1")
    pictures = by_subject(sweep)
    assert list(pictures) == ["strength 0", "strength 0.5", "strength 1"]
    assert np.array_equal(pictures["strength 0"], plain["base"])
    assert np.array_equal(pictures["strength 1"], plain[f"my-{method}"])
    assert not np.array_equal(pictures["strength 0.5"], plain["base"])


def test_a_sweep_of_checkpoints_draws_with_what_each_gives_out(lora_run, tmp_path):
    out = tmp_path / "pictures"
    pictures = by_subject(generate([lora_run.path], out, prompts=PROMPTS[:1], checkpoints=True))
    assert list(pictures) == ["base", "step 1", "step 2", "best (step 1)"]
    final = by_subject(generate([lora_run.path], out, prompts=PROMPTS[:1]))["my-lora"]
    assert np.array_equal(pictures["step 2"], final)
    assert np.array_equal(pictures["step 1"], pictures["best (step 1)"])
    assert not np.array_equal(pictures["step 1"], final)
    with pytest.raises(AdapterError, match="checkpoints"):
        generate([lora_run.best_adapter_file, lora_run.path], out, checkpoints=True)


def test_a_checkpoint_is_drawn_with_by_its_own_name(lora_run, tmp_path):
    file = lora_run.checkpoint_file(1)
    drawn = generate([file], tmp_path, prompts=PROMPTS[:1])
    assert [each.subject for each in drawn.pictures] == ["base", "my-lora-step-000001"]


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_checkpoints_of_a_run_without_an_adapter_yet_are_drawn_all_the_same(
    method, request, tmp_path
):
    run = request.getfixturevalue(f"{method}_run")
    broken_off = RunFolder(tmp_path / "run")
    shutil.copytree(run.path, broken_off.path)
    broken_off.adapter_file.unlink()
    changes = {"prompts": PROMPTS[:1], "checkpoints": True}
    whole = by_subject(generate([run.path], tmp_path / "one", **changes))
    pictures = by_subject(generate([broken_off.path], tmp_path / "two", **changes))
    assert pictures.keys() == whole.keys()
    assert all(np.array_equal(pictures[name], whole[name]) for name in whole)
    with pytest.raises(AdapterError, match="--checkpoints"):
        generate([broken_off.path], tmp_path / "three", prompts=PROMPTS[:1])


def test_an_average_over_steps_is_what_a_checkpoint_gives_out(lora_run, tiny_model, tmp_path):
    adapter = random_adapter(tiny_model, decompose=False, seed=3)
    state = training_state(adapter, ema_decay=0.5)
    for _ in range(2):
        move(adapter, 4)
        state.given.update()
    file = RunFolder(tmp_path / "run").checkpoint_file(1)
    state.save(file)
    save_adapter(adapter, RunFolder(tmp_path / "run").adapter_file)
    with adapter_of_checkpoint(file) as inside:
        given = read_tensors(inside)
    with state.given.in_place():
        expected = {f"unet.{file_key(n)}": p.clone() for n, p in adapter.parameters.items()}
    assert given.keys() == expected.keys()
    assert all(torch.equal(given[name], expected[name]) for name in given)


def test_a_damaged_checkpoint_or_one_of_schedule_free_adamw_is_refused(lora_run, tmp_path):
    copied = RunFolder(tmp_path / "run")
    shutil.copytree(lora_run.path, copied.path)
    file = copied.checkpoint_file(2)
    header, tensors = read_header(file), read_tensors(file)
    state = json.loads(header["training_state"])
    state["optimizer"]["group/0/train_mode"] = True
    write_tensors(file, tensors, {"training_state": json.dumps(state)})
    with pytest.raises(AdapterError, match="schedule-free"):
        generate([copied.path], tmp_path / "out", checkpoints=True)
    write_tensors(file, tensors)
    with pytest.raises(AdapterError, match="not a whole checkpoint"):
        generate([copied.path], tmp_path / "out", checkpoints=True)


def test_several_adapters_are_mixed_by_weight(lora_run, dora_run, tmp_path):
    both = [lora_run.path, dora_run.path]
    alone = by_subject(generate(both[:1], tmp_path))["my-lora"]
    mixed = by_subject(generate(both, tmp_path, weights="1,0.5"))["my-lora + my-dora"]
    without = by_subject(generate(both, tmp_path, weights="1,0"))["my-lora + my-dora"]
    assert np.abs(without - alone).max() <= 1
    assert not np.array_equal(mixed, alone)
    with pytest.raises(RecipeError, match="weights names 1, and there are 2 adapters"):
        generate(both, tmp_path, weights="1")


def test_pictures_carry_their_settings_for_us_and_for_other_programs(lora_run, tmp_path):
    drawn = generate([lora_run.path], tmp_path, prompts=["red++ hair"], scheduler="Euler a")
    base, adapted = (Image.open(each.file).text for each in drawn.pictures)
    told = json.loads(adapted["rasengan"])
    assert (told["prompt"], told["seed"], told["scheduler"]) == ("red++ hair", 0, "euler-a")
    assert told["adapters"][0]["file"].endswith("pytorch_lora_weights.safetensors")
    assert adapted["parameters"].startswith("(red:1.21) hair <lora:my-lora:1>\nSteps: 2, Sampler: ")
    assert re.search(r'Lora hashes: "my-lora: [0-9a-f]{12}"', adapted["parameters"])
    graph = json.loads(adapted["prompt"])
    assert graph["5"]["inputs"]["sampler_name"] == "euler_ancestral"
    assert "10" in graph
    assert json.loads(base["rasengan"])["adapters"] == []


def test_pictures_are_numbered_on_and_none_is_overwritten(lora_run, tmp_path):
    first = generate([lora_run.path], tmp_path)
    kept = {file: file.read_bytes() for file in tmp_path.iterdir()}
    second = generate([lora_run.path], tmp_path, seeds=("4-5",), prompts=PROMPTS[:1])
    assert {file: file.read_bytes() for file in kept} == kept
    names = [each.file.name for each in (*first.pictures, *second.pictures)]
    assert names[:2] == ["0000-seed0-base.png", "0001-seed0-base.png"]
    assert names[4:6] == ["0002-seed4-base.png", "0003-seed5-base.png"]
    assert [sheet.name for sheet in second.sheets] == ["0002-grid.png"]


def test_the_base_alone_is_drawn_too_and_prompts_by_seeds_are_one_sheet(tiny_model, tmp_path):
    drawn = generate([], tmp_path, base_model=str(tiny_model), seeds=(1, 2), size="32x40")
    assert {each.subject for each in drawn.pictures} == {"base"}
    with Image.open(drawn.sheets[0]) as sheet:
        assert json.loads(sheet.text["rasengan"]) == {
            "columns": ["seed 1", "seed 2"],
            "rows": PROMPTS,
        }
    assert pixels(drawn.pictures[0].file).shape == (40, 32, 3)


def test_what_was_drawn_before_the_work_is_broken_off_is_there(lora_run, tmp_path):
    wanted = Wanted(
        adapters=[lora_run.path],
        lines=as_lines(PROMPTS),
        settings=drawing_settings(sampler_steps=2),
        out=tmp_path,
    )
    work = generate_pictures(wanted)
    first = next(record for record in work if isinstance(record, DrawnPicture))
    work.close()
    assert [file.name for file in tmp_path.iterdir()] == [first.file.name]


def test_a_picture_to_start_from_gives_the_shape(lora_run, tmp_path):
    Image.new("RGB", (90, 60), "navy").save(tmp_path / "photo.png")
    drawn = generate(
        [lora_run.path], tmp_path / "out", from_picture=str(tmp_path / "photo.png"), denoise=0.5
    )
    shape = pixels(drawn.pictures[0].file).shape
    assert shape[1] > shape[0]
    told = json.loads(Image.open(drawn.pictures[0].file).text["rasengan"])
    assert (told["from_picture"], told["denoise"]) == ("photo.png", 0.5)


def test_an_aspect_is_the_nearest_size_that_the_run_was_trained_at(lora_run, tmp_path):
    drawn = generate([lora_run.path], tmp_path, aspect="5:3", with_base=False, prompts=PROMPTS[:1])
    height, width, _ = pixels(drawn.pictures[0].file).shape
    assert (width, height) == (40, 24)
    assert drawn.sheets == []


def test_a_sampler_that_cannot_is_refused_before_anything_is_loaded_or_drawn(
    lora_run, tmp_path, monkeypatch
):
    copied, out = RunFolder(tmp_path / "run"), tmp_path / "out"
    shutil.copytree(lora_run.path, copied.path)
    settings = json.loads(copied.settings_file.read_text())
    settings["objective"]["zero_terminal_snr"] = True
    copied.settings_file.write_text(json.dumps(settings))
    monkeypatch.setattr(easel, "load_pipeline", lambda *_: pytest.fail("was loaded"))
    with pytest.raises(ModelError, match="cannot draw with zero terminal SNR"):
        generate([copied.path], out, scheduler="heun")
    with pytest.raises(RecipeError, match="LCMScheduler cannot take steps = 100"):
        generate([lora_run.path], out, scheduler="lcm", sampler_steps=100)
    assert not out.exists()


def test_mistakes_are_one_line_and_nothing_is_written(lora_run, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(RecipeError, match="nothing to draw"):
        generate([lora_run.path], out, prompts=[])
    with pytest.raises(RecipeError, match="did you mean 'euler-a'"):
        generate([lora_run.path], out, scheduler="eular-a")
    with pytest.raises(RecipeError, match="--no-base needs an adapter"):
        generate([], out, base_model="mini", with_base=False)
    with pytest.raises(AdapterError, match="no adapter here"):
        generate([tmp_path], out, base_model="mini")
    (tmp_path / "other.safetensors").write_bytes(b"no tensors")
    with pytest.raises(AdapterError, match="not a safetensors file"):
        generate([tmp_path / "other.safetensors"], out, base_model="mini")
    assert not out.exists()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file"):
        generate([lora_run.path], tmp_path / "file")
