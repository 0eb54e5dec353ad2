import sys

import pytest

from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.adapters.files import save_adapter
from rasengan_xl.cli.app import main
from rasengan_xl.config.settings import AdapterSettings, ComputeSettings
from rasengan_xl.mini import MODEL_FOLDER
from rasengan_xl.sdxl.components import load_unet
from rasengan_xl.sdxl.compute import choose_compute
from rasengan_xl.sdxl.model_folder import ModelFolder


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """The file of a DoRA on the mini model, moved a little from where it begins."""
    model = ModelFolder(path=MODEL_FOLDER, name="mini")
    unet = load_unet(model, choose_compute(ComputeSettings(device="cpu")), "full")
    attached = attach_adapter(unet, AdapterSettings(rank=2, alpha=3.0, decompose=True), seed=0)
    for parameter in attached.parameters.values():
        parameter.data += 0.05
    file = tmp_path_factory.mktemp("adapter") / "moved.safetensors"
    save_adapter(attached, file)
    return file


def export(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["rasengan", "export", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


def test_an_export_says_what_was_written_and_what_was_checked(
    adapter, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "a.safetensors"
    arguments = (adapter, "--base", "mini", "--to", "comfyui", "--out", out)
    assert export(monkeypatch, *arguments, "--target", "comfyui@0.3.77") == 0
    said = capsys.readouterr().out
    assert f"Wrote {out} for comfyui@0.3.77: 56 layers, fp32" in said
    assert "greatest deviation from the trained change" in said
    assert "lower rank" not in said
    assert export(monkeypatch, *arguments[:-1], tmp_path / "plain.safetensors") == 0
    said = capsys.readouterr().out
    assert "Brought to a lower rank: 56 layers" in said
    assert "note: 56 layers of DoRA are written as plain LoRA" in said
    assert "exact: --target (comfyui@0.3.42 to" in said


def test_a_merged_model_is_not_said_to_be_for_a_program(adapter, tmp_path, monkeypatch, capsys):
    out = tmp_path / "model"
    assert export(monkeypatch, adapter, "--base", "mini", "--to", "merged", "--out", out) == 0
    said = capsys.readouterr().out
    assert f"Wrote {out}, the base with the adapter in it: 56 layers, fp16" in said
    assert "Checked against base plus change: greatest deviation" in said


def test_a_name_of_a_pickle_is_no_folder(adapter, tmp_path, monkeypatch, capsys):
    for to, name in (("kohya", "a.pt"), ("merged", "a.ckpt")):
        assert export(monkeypatch, adapter, "--to", to, "--out", tmp_path / name) == 2
        assert "only .safetensors is written" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--to", "comfyui", "--target", "comfyui@9"), "--target comfyui@9: how it computes DoRA"),
        (
            ("--to", "diffusers", "--target", "diffusers@1"),
            "--target diffusers@1: diffusers computes one",
        ),
        (("--to", "nobody"), "export: to = 'nobody'"),
        (("--to", "merged", "--rank", "3"), "export: merged holds whole weights"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    adapter, tmp_path, monkeypatch, capsys, options, line
):
    assert export(monkeypatch, adapter, "--base", "mini", "--out", tmp_path / "a", *options) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {line}")
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_export_without_a_name_is_called_by_what_and_for_whom(adapter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ("--base", "mini", "--to", "diffusers")
    assert export(monkeypatch, adapter, *options) == 0
    assert [file.name for file in tmp_path.iterdir()] == ["moved-diffusers.safetensors"]
    assert export(monkeypatch, adapter, *options) == 2  # and is not overwritten
