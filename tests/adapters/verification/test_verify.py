import json

import pytest
import torch
from safetensors.torch import save_file

from rasengan_xl.adapters import applying
from rasengan_xl.adapters.unfused import UnfusedChange
from rasengan_xl.adapters.verification import contents_checks, outputs
from rasengan_xl.adapters.verification.trained import verify_trained
from rasengan_xl.config.base_precisions import STORAGES
from rasengan_xl.errors import AdapterError, ModelError
from rasengan_xl.tensor_file import read_header, read_tensors, write_tensors

from .conftest import details, statuses, verify

CHECKS = {
    "keys",
    "finite",
    "precision",
    "parameter count",
    "scale",
    "round trip",
    "weight change",
    "strength",
    "output changed",
    "output restored",
    "plain diffusers",
    "base model",
}
NEED_BASE = {"strength", "output changed", "output restored", "plain diffusers", "base model"}
FIRST = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.mark.parametrize("method", ["lora", "qlora", "dora"])
def test_a_sound_run_passes_every_check(runs, method):
    found = verify(runs[method])
    assert statuses(found) == dict.fromkeys(CHECKS, "passed")
    assert found.passed
    assert {layer.scale for layer in found.layers} == {3.0}
    assert all(0 < layer.relative < 1 for layer in found.layers)
    (kind,) = found.kinds
    assert (kind.kind, kind.ranks, kind.alphas) == (
        "DoRA" if method == "dora" else "LoRA",
        [2],
        [6.0],
    )
    assert kind.layers == len(found.layers)
    assert ("NF4" in found.base) == (method == "qlora")


@pytest.mark.parametrize("precision", ["nf4-small", "int8"])
def test_a_dora_of_a_rounded_base_is_checked_on_the_unquantized_one(make_trained, precision):
    trained = make_trained("dora", base_precision=precision)
    assert verify_trained(trained).passed
    found = verify(trained.file.parent)
    assert found.passed, details(found)
    assert statuses(found)["plain diffusers"] == "passed"
    assert "which are for the rounded base" in str(details(found))
    assert f"trained on it in {STORAGES[precision].title}" in found.base


def zero_a_layer(tensors):
    tensors[f"{FIRST}.lora_B.weight"].zero_()


def zero_all(tensors):
    for name, tensor in tensors.items():
        if "lora_B" in name:
            tensor.zero_()


def put_nan(tensors):
    tensors[f"{FIRST}.lora_A.weight"][0, 3] = torch.nan


def add_a_stranger(tensors):
    for part, shape in (("lora_A", (2, 4)), ("lora_B", (4, 2))):
        tensors[f"unet.nowhere.to_q.{part}.weight"] = torch.ones(shape)


def drop_a_factor(tensors):
    del tensors[f"{FIRST}.lora_B.weight"]


def drop_a_layer(tensors):
    for part in ("lora_A", "lora_B"):
        del tensors[f"{FIRST}.{part}.weight"]


def halve_precision(tensors):
    tensors.update({name: tensor.half() for name, tensor in tensors.items()})


@pytest.mark.parametrize(
    ("spoil", "check", "told"),
    [
        (zero_all, "weight change", "zero on every layer"),
        (zero_all, "output changed", "the same as without"),
        (put_nan, "finite", "1 weight: unet.down_blocks.1.attentions.0"),
        (put_nan, "keys", "NaN"),
        (add_a_stranger, "keys", "nowhere"),
        (drop_a_factor, "keys", FIRST.removeprefix("unet.")),
        (drop_a_layer, "parameter count", "by the run's settings"),
        (halve_precision, "precision", "float16"),
    ],
)
def test_a_spoiled_file_fails_for_the_right_reason(copy_run, spoil, check, told):
    run = copy_run()
    run.change_tensors(spoil)
    found = verify(run.path)
    assert not found.passed
    assert statuses(found)[check] == "failed"
    assert told in details(found)[check]


def test_what_is_not_understood_is_told_and_the_rest_not_checked(copy_run):
    run = copy_run()
    run.change_tensors(add_a_stranger)
    found = verify(run.path)
    assert [check.name for check in found.failures] == ["keys"]
    assert statuses(found)["finite"] == "passed"
    assert statuses(found)["output changed"] == "not checked"
    assert found.layers == []


def test_a_layer_that_does_nothing_is_named(copy_run):
    run = copy_run()
    run.change_tensors(zero_a_layer)
    found = verify(run.path)
    assert statuses(found)["weight change"] == "noted"
    assert f"zero on 1 layer: {FIRST}" in details(found)["weight change"]
    assert found.passed


def test_another_alpha_than_the_run_was_trained_with_fails(copy_run):
    run = copy_run()
    file = run.folder.adapter_file
    tensors = {name: tensor.clone() for name, tensor in read_tensors(file).items()}
    header = read_header(file)
    described = json.loads(header["lora_adapter_metadata"])
    described["unet.lora_alpha"] = 3
    write_tensors(file, tensors, {**header, "lora_adapter_metadata": json.dumps(described)})
    found = verify(run.path)
    assert [check.name for check in found.failures] == ["scale"]
    assert "1.5 on" in details(found)["scale"]
    assert "make it 3" in details(found)["scale"]


def test_another_unet_than_it_was_trained_on_fails_and_another_vae_is_noted(copy_run):
    run = copy_run()
    run.change_json("model.json", lambda tree: tree["parts"].update(vae="other"))
    found = verify(run.path)
    assert found.passed
    assert statuses(found)["base model"] == "noted"
    assert details(found)["base model"].endswith("other vae")
    run.change_json("model.json", lambda tree: tree["parts"].update(unet="other"))
    found = verify(run.path)
    assert [check.name for check in found.failures] == ["base model"]
    assert "other vae, unet" in details(found)["base model"]


def test_a_magnitude_altered_since_training_fails(copy_run):
    run = copy_run("dora")
    found = verify(run.path)
    run.folder.verification_file.write_text(found.model_dump_json())
    assert statuses(verify(run.path))["as trained"] == "passed"
    run.change_tensors(lambda tensors: tensors[f"{FIRST}.lora_magnitude_vector"].mul_(1.01))
    assert [check.name for check in verify(run.path).failures] == ["as trained"]


def test_what_diffusers_does_not_load_fails(runs, monkeypatch):
    kind = outputs.StableDiffusionXLPipeline
    monkeypatch.setattr(kind, "load_lora_into_unet", lambda *_, **__: None)
    found = verify(runs["lora"])
    assert [check.name for check in found.failures] == ["plain diffusers"]
    assert "off by 100" in details(found)["plain diffusers"]


def test_what_diffusers_refuses_fails(runs, monkeypatch):
    def refuse(*_, **__):
        raise ValueError("no such form\nat all")

    monkeypatch.setattr(outputs.StableDiffusionXLPipeline, "load_lora_into_unet", refuse)
    found = verify(runs["lora"])
    assert details(found)["plain diffusers"] == "cannot load it (no such form)"


def test_a_trace_left_on_the_base_fails(runs, monkeypatch):
    monkeypatch.setattr(UnfusedChange, "remove", lambda _: None)
    found = verify(runs["lora"])
    assert statuses(found)["output restored"] == "failed"


def test_a_strength_that_rounds_fails(runs, monkeypatch):
    def mix(base, changes):
        for change, strength in changes:
            base = base + strength * applying.weight_change(change, base)
        return base

    monkeypatch.setattr(applying, "_mix", mix)
    found = verify(runs["dora"])
    assert [check.name for check in found.failures] == ["strength"]


def test_a_file_that_is_not_the_same_after_writing_fails(runs, monkeypatch):
    def write_rounded(file, tensors, header):
        write_tensors(file, {n: t.bfloat16().float() for n, t in tensors.items()}, header)

    monkeypatch.setattr(contents_checks, "write_tensors", write_rounded)
    found = verify(runs["lora"])
    assert [check.name for check in found.failures] == ["round trip"]


def text_adapter(file, up):
    layer = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    weights = {"lora_A": torch.arange(128.0).reshape(2, 64) / 64, "lora_B": up}
    save_file({f"{layer}.{name}.weight": tensor for name, tensor in weights.items()}, file)


@pytest.mark.parametrize(("factor", "status"), [(0.1, "passed"), (0.0, "failed")])
def test_a_changed_text_encoder_is_checked_too(tiny_model, tmp_path, factor, status):
    text_adapter(tmp_path / "text.safetensors", torch.full((64, 2), factor))
    found = verify(tmp_path / "text.safetensors", str(tiny_model))
    assert statuses(found)["text output changed"] == status
    assert statuses(found)["text output restored"] == "passed"
    assert statuses(found)["output changed"] == "not checked"


def sdxl_file(file, dora: bool = False, alpha: float = 4.0):
    flat = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
    tensors = {
        f"{flat}.lora_down.weight": torch.ones(8, 640).half(),
        f"{flat}.lora_up.weight": torch.ones(640, 8).half(),
        f"{flat}.alpha": torch.tensor(alpha),
    }
    if dora:
        tensors[f"{flat}.dora_scale"] = torch.ones(640, 1).half()
    facts = {"ss_network_dim": "8", "ss_output_name": "\x1b[31mred\n" + "x" * 500}
    save_file(tensors, file, metadata={**facts, "ss_tag_frequency": "{}"})


def test_a_file_without_a_base_is_checked_as_far_as_that_goes(tmp_path):
    file = tmp_path / "a.safetensors"
    sdxl_file(file)
    found = verify(file)
    assert found.passed
    assert {name for name, status in statuses(found).items() if status == "passed"} == (
        CHECKS - NEED_BASE
    )
    assert {details(found)[name] for name in NEED_BASE} == {"no base is known; name it with --base"}
    (layer,) = found.layers
    assert layer.change_norm == pytest.approx(4 / 8 * 8 * 640)
    assert layer.weight_norm is None
    assert found.form == "kohya"
    assert found.facts["ss_network_dim"] == "8"
    assert found.facts["ss_output_name"].isprintable()
    assert len(found.facts["ss_output_name"]) <= 120
    assert "ss_tag_frequency" not in found.facts


def test_how_far_dora_moves_a_weight_is_unknown_without_a_base(tmp_path):
    file = tmp_path / "a.safetensors"
    sdxl_file(file, dora=True)
    assert statuses(verify(file))["weight change"] == "not checked"


def test_a_run_whose_base_is_not_here_says_how_to_name_one(copy_run):
    run = copy_run()
    run.change_json("settings.json", lambda tree: tree.update(base_model="nobody/nothing"))
    found = verify(run.path)
    assert "nobody/nothing is not downloaded" in details(found)["base model"]
    run.change_json("settings.json", lambda tree: tree.update(base_model="./gone"))
    found = verify(run.path)
    assert "name it with --base" in details(found)["base model"]


def test_a_base_that_is_named_and_not_there_is_refused(runs):
    with pytest.raises(ModelError, match="nowhere"):
        verify(runs["lora"], "./nowhere")


def test_a_checkpoint_is_refused_and_the_run_named(copy_run):
    run = copy_run()
    checkpoint = run.folder.checkpoint_file(4)
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(run.folder.adapter_file.read_bytes())
    with pytest.raises(AdapterError, match="is a checkpoint.*copy"):
        verify(checkpoint)


def test_a_file_that_is_no_adapter_is_refused(tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(AdapterError):
        verify(tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_text("hello")
    with pytest.raises(AdapterError):
        verify(tmp_path / "b.safetensors")


def test_an_adapter_that_makes_the_base_overflow_fails(copy_run):
    run = copy_run()

    def enlarge(tensors):
        tensors.update({name: tensor * 1e18 for name, tensor in tensors.items()})

    run.change_tensors(enlarge)
    found = verify(run.path)
    assert statuses(found)["finite"] == "passed"
    assert "NaN or infinity" in details(found)["output changed"]
