import json

import pytest
import torch
from diffusers import UNet2DConditionModel
from typer.testing import CliRunner

from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.adapters.files import save_adapter
from rasengan_xl.cli import drawing
from rasengan_xl.cli.app import app
from rasengan_xl.config.recipe import validate_run
from rasengan_xl.errors import RasenganError
from rasengan_xl.runs.folder import RunFolder


@pytest.fixture(scope="module")
def run(tiny_model, picture_folder, tmp_path_factory):
    """What a run leaves, without training."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "mine")
    dataset = {"source": str(picture_folder), "resolution": 32, "held_out_minimum": 3}
    tree = {"base_model": str(tiny_model), "dataset": {**dataset, "bucket_multiple": 8}}
    folder.start(validate_run(tree, "test"))
    unet = UNet2DConditionModel.from_pretrained(tiny_model, subfolder="unet")
    adapter = attach_adapter(unet, validate_run(tree, "test").adapter, seed=0)
    with torch.no_grad():
        for parameter in adapter.parameters.values():
            parameter.add_(0.05)
    save_adapter(adapter, folder.adapter_file)
    return folder


def generate(*words):
    return CliRunner().invoke(app, ["generate", *map(str, words), "--steps", "2"])


def test_prompts_from_everywhere_are_drawn_and_the_sheet_is_named(run, tmp_path):
    (tmp_path / "prompts.txt").write_text("# mine\na cat\n")
    out = tmp_path / "pictures"
    answer = generate(
        *(run.path, "--prompt", "a ninja", "--prompts", tmp_path / "prompts.txt"),
        *("--held-out", 1, "--memory", "low", "--out", out),
    )
    assert answer.exit_code == 0, answer.output
    assert f"{out / '0000-grid.png'}\n" in answer.output
    assert f"Each of the 6 pictures: {out}" in answer.output
    assert "no GPU to offload from" in answer.output
    assert "draw 12/12" in answer.output
    assert len(list(out.iterdir())) == 7


def test_ctrl_c_keeps_the_finished_pictures_and_says_so(run, tmp_path, monkeypatch):
    from rasengan_xl.generation import sheet

    save = sheet.save_drawn
    saved = []

    def save_two(picture, file, *rest):
        if len(saved) == 2:
            raise KeyboardInterrupt
        saved.append(file)
        save(picture, file, *rest)

    monkeypatch.setattr(sheet, "save_drawn", save_two)
    answer = generate(run.path, "--prompt", "a ninja", "--seed", "0-3", "--out", tmp_path / "out")
    assert answer.exit_code == drawing.INTERRUPTED
    assert "Stopped: 2 pictures are in" in answer.output
    assert sorted((tmp_path / "out").iterdir()) == saved


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--prompt", "x", "--scheduler", "eular"], "no such sampler, did you mean 'euler'"),
        (["--prompt", "x", "--strength", "1,much"], "strengths.1 = 'much'"),
        (["--held-out", "99"], "the run held out 3"),
        ([], "nothing to draw"),
        (["--prompt", "x", "--weights", "1,1"], "weights names 2"),
        (["--prompt", "x", "--from-picture", "none.png"], "from_picture = 'none.png'"),
        (["--prompt", "x", "--checkpoints"], "keeps no checkpoints"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_loaded(run, tmp_path, words, expected):
    out = tmp_path / "out"
    answer = generate(run.path, *words, "--out", out)
    assert isinstance(answer.exception, RasenganError)
    assert expected in str(answer.exception)
    assert "\n" not in str(answer.exception)
    assert not out.exists()


def test_held_out_captions_need_a_run(tiny_model):
    answer = generate("--base", tiny_model, "--held-out", "1")
    assert "--held-out needs a run" in str(answer.exception)


def test_lines_of_a_file_may_have_seeds_and_sizes_of_their_own(run, tmp_path):
    file = tmp_path / "prompts.jsonl"
    lines = [{"prompt": "a", "seed": 7}, {"prompt": "b", "size": "40x32"}]
    file.write_text("\n".join(map(json.dumps, lines)))
    answer = generate(run.path, "--prompts", file, "--no-base", "--out", tmp_path / "out")
    names = sorted(each.name for each in (tmp_path / "out").iterdir())
    assert answer.exit_code == 0, answer.output
    assert names == ["0000-grid.png", "0000-seed7-mine.png", "0001-seed0-mine.png"]
