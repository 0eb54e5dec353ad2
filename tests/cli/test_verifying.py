import io
import json

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file

from rasengan_xl.cli import app, verifying
from rasengan_xl.cli import console as console_module
from rasengan_xl.errors import VerificationError
from rasengan_xl.runs.verification import Verification

LAYER = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"


@pytest.fixture
def adapter(tmp_path):
    """For SDXL, by another trainer, with no base at hand."""

    def write(up: torch.Tensor):
        down = torch.ones(8, 640)
        file = tmp_path / "adapter.safetensors"
        tensors = {f"{LAYER}.lora_down.weight": down, f"{LAYER}.lora_up.weight": up}
        save_file({**tensors, f"{LAYER}.alpha": torch.tensor(4.0)}, file)
        return file

    return write


@pytest.fixture
def shown(monkeypatch):
    """What is shown in a terminal of 80 columns."""
    text = io.StringIO()
    console = Console(file=text, width=80)
    monkeypatch.setattr(verifying, "console", console)
    monkeypatch.setattr(console_module, "console", console)
    return text


def test_people_are_shown_the_outcome_first_then_checks_and_blocks(adapter, shown):
    verifying.show_verification(adapter(torch.ones(640, 8)), None, each_layer=False, as_json=False)
    lines = shown.getvalue().splitlines()
    assert lines[0] == "passed: 7 checks, 1 layer, 5 not checked"
    assert "form: kohya" in lines
    assert "UNet: LoRA on 1 layer, rank 8, alpha 4" in lines
    assert any(line.startswith("UNet down 1 attentions 0") for line in lines)
    tables = lines[next(i for i, line in enumerate(lines) if line.startswith("check ")) :]
    assert max(map(len, tables)) <= 80


def test_each_layer_is_shown_when_asked_for(adapter, shown):
    verifying.show_verification(adapter(torch.ones(640, 8)), None, each_layer=True, as_json=False)
    assert "attn1.to_q" in shown.getvalue().replace("\n", "")


def test_a_failure_ends_with_status_1_and_is_named_first(adapter, shown):
    with pytest.raises(SystemExit) as left:
        verifying.show_verification(
            adapter(torch.full((640, 8), torch.nan)), None, each_layer=False, as_json=False
        )
    assert left.value.code == 1
    assert shown.getvalue().startswith("FAILED: keys, finite; 2 of 3 checks")


def test_programs_are_given_one_json_document_and_nothing_else(adapter, capsys):
    verifying.show_verification(adapter(torch.ones(640, 8)), None, each_layer=False, as_json=True)
    printed = capsys.readouterr()
    assert Verification.model_validate_json(printed.out).passed
    assert json.loads(printed.out)["layers"][0]["scale"] == 0.5
    assert "read 1/1" in printed.err


def test_what_is_no_adapter_ends_with_status_2_in_one_line(tmp_path, monkeypatch, capsys):
    file = tmp_path / "a.safetensors"
    file.write_text("hello")
    monkeypatch.setattr("sys.argv", ["rasengan", "verify", str(file)])
    with pytest.raises(SystemExit) as left:
        app.main()
    assert left.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert str(file) in line


def test_a_training_that_fails_its_verification_ends_with_status_1(monkeypatch, capsys):
    def fail():
        raise VerificationError("run/adapter: is saved, but failed its verification")

    monkeypatch.setattr(app, "app", fail)
    with pytest.raises(SystemExit) as left:
        app.main()
    assert left.value.code == 1
    assert capsys.readouterr().err.startswith("error: run/adapter: is saved")
