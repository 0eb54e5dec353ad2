from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from rasengan_xl.adapters.changes import changed_weight, weight_change
from rasengan_xl.adapters.consumers.targets import KNOWN_VERSIONS, find_target
from rasengan_xl.adapters.decomposition import (
    DECOMPOSITIONS_KEY,
    Decomposition,
    write_decompositions,
)
from rasengan_xl.adapters.low_rank import Limits
from rasengan_xl.adapters.reading.any_form import read_adapter
from rasengan_xl.adapters.writing.adapter_file import write_adapter
from rasengan_xl.adapters.writing.conversion import ExportOptions
from rasengan_xl.adapters.writing.export import export_adapter
from rasengan_xl.config.base_precisions import STORAGES
from rasengan_xl.config.recipe import validate_run
from rasengan_xl.config.requests import export_settings
from rasengan_xl.errors import AdapterError, OutputError, RecipeError
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.records import RunSummary
from rasengan_xl.sdxl.stores import round_as

from .random_contents import ATTENTION, EVERYWHERE, FEED_FORWARD, finish, random_contents

UNET = (*ATTENTION, *FEED_FORWARD)
TARGETS = [
    ("diffusers", None),
    ("kohya", None),
    ("comfyui", None),
    ("a1111", None),
    ("comfyui", "comfyui@0.3.77"),
    ("comfyui", "comfyui@pr15458"),
    ("kohya", "lycoris@3.2"),
]


@pytest.fixture
def run(mini_base, tmp_path):
    """Make the folder of a run that was never trained."""

    def make(kind: str, base_precision: str = "full", **adapter: object) -> Path:
        folder = RunFolder(tmp_path / f"run-{kind}-{base_precision}")
        options = ExportOptions(target=find_target("diffusers"), limits=Limits(residual=0.01))
        contents = random_contents(mini_base, kind, UNET)
        stored = [Decomposition(stored=STORAGES[base_precision].linears)]
        told = {DECOMPOSITIONS_KEY: write_decompositions(stored)}
        finish(write_adapter(contents, mini_base, folder.adapter_file, options, lambda _: told))
        tree = {
            "base_model": "mini",
            "dataset": {"source": "mini", "resolution": 64},
            "caption": {"trigger": "shinobi", "template": "{trigger}, {caption}"},
            "adapter": {"base_precision": base_precision, "decompose": kind == "dora"},
        }
        settings = validate_run(tree, "test")
        folder.settings_file.write_text(settings.model_dump_json())
        return folder.path

    return make


def export(path, out, base=None, **options):
    return finish(export_adapter(path, base, out, export_settings(**options)))


def header(file):
    with safe_open(file, framework="pt") as content:
        return content.metadata()


@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize(("consumer", "version"), TARGETS)
def test_export_import_export_gives_the_same_bytes(run, tmp_path, consumer, version, kind):
    options = {"to": consumer, "target": version}
    first, second, third = (tmp_path / f"{n}.safetensors" for n in "abc")
    export(run(kind), first, **options)
    export(first, second, base="mini", **options)
    export(second, third, base="mini", **options)
    assert load_file(first).keys() == load_file(second).keys()
    for name, tensor in load_file(first).items():
        assert torch.equal(tensor, load_file(second)[name]), name
    assert first.read_bytes() == second.read_bytes() == third.read_bytes()


@pytest.mark.parametrize("version", ["comfyui@0.3.77", "comfyui@pr15458"])
def test_dora_that_was_written_for_a_version_is_read_back_as_it_is(
    mini_base, tmp_path, run, version
):
    folder, file = run("dora"), tmp_path / "a.safetensors"
    export(folder, file, to="comfyui", target=version)
    trained = read_adapter(RunFolder(folder).adapter_file, mini_base.layers)
    read = read_adapter(file, mini_base.layers)
    for layer, change in trained.changes.items():
        weight = mini_base.weight(layer).double()
        wanted = weight_change(change, weight)
        found = weight_change(read.changes[layer], weight)
        assert (found - wanted).norm() < 1e-5 * wanted.norm()


def test_the_header_tells_what_is_true(run, tmp_path):
    folder = run("lora")
    export(folder, tmp_path / "a.safetensors", to="kohya", strength=0.5)
    texts = header(tmp_path / "a.safetensors")
    assert texts["ss_network_dim"] == "4"
    assert float(texts["ss_network_alpha"]) == 3.0
    assert texts["ss_base_model_version"] == "sdxl_base_v1-0"
    assert texts["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
    assert texts["modelspec.trigger_phrase"] == "shinobi"
    assert texts["modelspec.prediction_type"] == "epsilon"
    assert len(texts["rasengan.recipe_sha256"]) == 64
    assert len(texts["modelspec.hash_sha256"]) == 66
    assert "modelspec.license" not in texts
    assert "ss_steps" not in texts  # the run has not finished, so nobody knows


def test_what_is_true_of_one_form_only_is_not_said_of_another(run, tmp_path):
    first, second = (tmp_path / f"{name}.safetensors" for name in "ab")
    export(run("dora"), first, to="kohya", target="lycoris@3.2")
    assert header(first)["ss_network_module"] == "lycoris.kohya"
    export(first, second, base="mini", to="kohya")
    told = header(second)
    assert told["ss_network_module"] == "networks.lora"
    gone = {"ss_network_args", "rasengan.target", "rasengan.decompositions"}
    assert gone <= header(first).keys()
    assert not gone & told.keys()


@pytest.mark.parametrize("kind", ["loha", "lokr", "dense", "dora-by-input", "dora"])
def test_what_lora_cannot_express_is_approximated_within_the_residual(mini_base, tmp_path, kind):
    contents = random_contents(mini_base, kind, UNET)
    options = ExportOptions(target=find_target("kohya"), limits=Limits(residual=0.02))
    report = finish(
        write_adapter(contents, mini_base, tmp_path / "a.safetensors", options, lambda _: {})
    )
    assert len(report.approximated) == len(UNET)
    assert 0 < report.overall_residual <= 0.02
    assert report.worst.relative <= 0.0201
    ranks = {layer.layer: layer.rank for layer in report.approximated}
    largest = {layer: min(mini_base.weight(layer).shape) for layer in UNET}
    assert any(ranks[layer] < largest[layer] for layer in UNET)


@pytest.mark.parametrize("kind", ["lora", "dora", "dora-by-input", "loha", "lokr", "dense"])
@pytest.mark.parametrize("strength", [0.5, -0.5, 1.7])
def test_a_strength_moves_the_weight_so_far_and_keeps_dora(mini_base, tmp_path, kind, strength):
    contents = random_contents(mini_base, kind, UNET)
    options = ExportOptions(
        target=find_target("diffusers"), limits=Limits(residual=1e-6), strength=strength
    )
    report = finish(
        write_adapter(contents, mini_base, tmp_path / "a.safetensors", options, lambda _: {})
    )
    assert report.worst.relative < 1e-5
    stays = kind in ("lora", "dora")
    assert bool(report.approximated) != stays
    read = read_adapter(tmp_path / "a.safetensors", mini_base.layers)
    assert read.is_decomposed == (kind == "dora")


def test_a_rank_is_kept_to_and_the_residual_is_what_is_missing(mini_base, tmp_path):
    contents = random_contents(mini_base, "lora", UNET, rank=8)
    options = ExportOptions(
        target=find_target("comfyui"), limits=Limits(rank=3), resized=True, strength=1.0
    )
    file = tmp_path / "a.safetensors"
    report = finish(write_adapter(contents, mini_base, file, options, lambda _: {}))
    read = read_adapter(file, mini_base.layers)
    assert {change.rank for change in read.changes.values()} == {3}
    residuals = {each.layer: each.residual for each in report.approximated}
    for layer in UNET:
        values = torch.linalg.svdvals(
            weight_change(contents.changes[layer], mini_base.weight(layer))
        )
        missing = (values[3:].norm() / values.norm()).item()
        assert residuals[layer] == pytest.approx(missing, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_sixteen_bits_round_no_more_than_they_must(mini_base, tmp_path, kind, dtype):
    contents = random_contents(mini_base, kind)
    options = ExportOptions(
        target=find_target("diffusers"), dtype=dtype, limits=Limits(residual=0.01)
    )
    report = finish(
        write_adapter(contents, mini_base, tmp_path / "a.safetensors", options, lambda _: {})
    )
    unit = torch.finfo(dtype).eps
    unet = [each for each in report.deviations if each.layer.startswith("unet.")]
    assert 0 < max(each.relative for each in unet) < unit


def test_a_factor_beyond_float16_is_refused_by_name(mini_base, tmp_path):
    contents = random_contents(mini_base, "lora", ATTENTION)
    contents.changes[ATTENTION[1]].up[0, 0] = 1e5
    options = ExportOptions(
        target=find_target("kohya"), dtype=torch.float16, limits=Limits(residual=0.01)
    )
    with pytest.raises(OutputError, match=r"attn1_to_k.lora_up.weight: reaches 1e\+05.*bf16"):
        finish(write_adapter(contents, mini_base, tmp_path / "a", options, lambda _: {}))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_its_program_would_misread_is_not_written(mini_base, tmp_path, monkeypatch):
    contents = random_contents(mini_base, "dora", ATTENTION)
    today, later = (find_target("comfyui", f"comfyui@{v}") for v in ("0.3.77", "pr15458"))
    monkeypatch.setattr(
        "rasengan_xl.adapters.writing.adapter_file.read_as",
        lambda _, file, layers: read_as(later, file, layers),
    )
    from rasengan_xl.adapters.writing.checking import read_as

    options = ExportOptions(target=today, limits=Limits(residual=0.01))
    with pytest.raises(OutputError, match="would make something else of it: 6 of 6 layers"):
        finish(write_adapter(contents, mini_base, tmp_path / "a", options, lambda _: {}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("consumer", ["diffusers", "merged"])
@pytest.mark.parametrize(("precision", "store"), [("nf4-small", "nf4"), ("int8", "int8")])
def test_a_dora_of_a_rounded_base_is_exported_with_the_gain_that_it_was_trained_to(
    mini_base, run, tmp_path, precision, store, consumer
):
    folder = run("dora", precision)
    out = tmp_path / ("merged" if consumer == "merged" else "exported.safetensors")
    report = export(folder, out, to=consumer, dtype="fp32")
    assert any("keeps the gain" in note for note in report.notes)
    assert report.worst.relative < 1e-5
    trained = read_adapter(RunFolder(folder).adapter_file, mini_base.layers)
    if consumer == "merged":
        merged = StableDiffusionXLPipeline.from_pretrained(out).unet
        written = {
            f"unet.{name}": each.weight
            for name, each in merged.named_modules()
            if hasattr(each, "weight")
        }
    else:
        exported = read_adapter(out, mini_base.layers).changes
        assert all(change.stored == "compute" for change in exported.values())
        written = {n: changed_weight(c, mini_base.weight(n)) for n, c in exported.items()}
    for name, change in trained.changes.items():
        weight, rounded = (
            mini_base.weight(name),
            round_as(store, mini_base.weight(name), torch.float32),
        )
        of_others = change.direction.difference(weight.shape, weight.device)
        gain = change.magnitude / (rounded + of_others).norm(dim=1)
        torch.testing.assert_close(written[name], gain[:, None] * (weight + of_others))


def test_a_merged_model_is_base_plus_change(mini_base, run, tmp_path):
    folder = run("dora")
    report = export(folder, tmp_path / "merged", to="merged", dtype="fp32", strength=0.5)
    assert report.worst.relative < 1e-5
    merged = StableDiffusionXLPipeline.from_pretrained(tmp_path / "merged").unet
    trained = read_adapter(RunFolder(folder).adapter_file, mini_base.layers)
    for layer, change in trained.changes.items():
        weight = mini_base.weight(layer)
        wanted = weight + 0.5 * weight_change(change, weight)
        found = merged.get_submodule(layer.removeprefix("unet.")).weight
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    single = export(folder, tmp_path / "merged.safetensors", to="merged")
    assert single.precision == "fp16"
    assert header(tmp_path / "merged.safetensors")["modelspec.merged_from"].startswith("mini")


def test_a_layer_that_is_left_as_it_is_only_rounds_when_it_is_merged(mini_base, run, tmp_path):
    file = RunFolder(run("lora")).adapter_file
    tensors, texts = load_file(file), header(file)
    still = ATTENTION[0]
    save_file({**tensors, (up := f"{still}.lora_B.weight"): 0 * tensors[up]}, file, texts)
    report = export(file, tmp_path / "merged", to="merged", dtype="bf16")  # the base is in fp16
    assert {each.layer: each.relative for each in report.deviations}[still] == 0
    written = load_file(tmp_path / "merged" / "unet" / "diffusion_pytorch_model.safetensors")
    rounded = mini_base.weight(still).bfloat16()
    assert torch.equal(written[f"{still.removeprefix('unet.')}.weight"], rounded)


def test_a_lora_needs_no_base_and_a_dora_does(mini_base, tmp_path):
    kinds = {"lora": ATTENTION, "dora": ATTENTION}
    for kind, layers in kinds.items():
        contents = random_contents(mini_base, kind, layers)
        bare = type(mini_base)(layers=mini_base.layers, stored=None)
        options = ExportOptions(target=find_target("kohya"), limits=Limits(residual=0.01))
        work = write_adapter(contents, bare, tmp_path / kind, options, lambda _: {})
        if kind == "lora":
            assert finish(work).worst.relative < 1e-6
        else:
            with pytest.raises(AdapterError, match="name it with --base"):
                finish(work)


def test_what_is_there_is_not_written_over(run, tmp_path):
    (tmp_path / "a.safetensors").write_text("mine")
    with pytest.raises(OutputError, match="is there already"):
        export(run("lora"), tmp_path / "a.safetensors", to="kohya")
    assert (tmp_path / "a.safetensors").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"to": "kohya", "rank": 2, "residual": 0.1}, "exclude each other"),
        ({"to": "kohya", "strength": 0}, "strength 0 is the base itself"),
        ({"to": "merged", "rank": 2}, "merged holds whole weights"),
        ({"to": "comfy"}, "to = 'comfy'"),
        ({"to": "kohya", "residual": 2}, "residual = 2"),
        ({"to": "kohya", "strength": float("nan")}, "strength = nan"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_in_one_line(options, line):
    with pytest.raises(RecipeError, match=line) as caught:
        export_settings(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "version", ["comfyui", "comfyui@", "comfyui@0.3.41", "comfyui@0.24.1.2.3x"]
)
def test_an_unknown_version_is_answered_with_the_known_ones(version):
    with pytest.raises(OutputError, match=r"comfyui@0\.3\.42 to comfyui@0\.24\.0, comfyui@pr15458"):
        find_target("comfyui", version)


def test_versions_are_compared_as_numbers():
    assert find_target("comfyui", "comfyui@v0.3.101").decompositions[0].norm_of == "base"
    assert find_target("kohya", "lycoris@3.4.7").decompositions
    assert all(known.source for known in KNOWN_VERSIONS)


def test_a_text_encoder_that_diffusers_cannot_load_is_refused(mini_base, tmp_path):
    contents = random_contents(mini_base, "lora", EVERYWHERE[-1:])
    options = ExportOptions(target=find_target("diffusers"), limits=Limits(residual=0.01))
    with pytest.raises(OutputError, match="text_encoder_2: diffusers loads no adapter"):
        finish(write_adapter(contents, mini_base, tmp_path / "a", options, lambda _: {}))


def test_a_part_with_dora_on_some_layers_only_is_held_exactly(mini_base, tmp_path):
    dora = random_contents(mini_base, "dora", ATTENTION)
    lora = random_contents(mini_base, "rslora", FEED_FORWARD, rank=3)
    mixed = type(dora)(
        source=dora.source, form="mixed", changes={**dora.changes, **lora.changes}, header={}
    )
    options = ExportOptions(target=find_target("diffusers"), limits=Limits(residual=0.01))
    file = tmp_path / "a.safetensors"
    report = finish(write_adapter(mixed, mini_base, file, options, lambda _: {}))
    assert not report.approximated
    assert report.worst.relative < 1e-5
    read = read_adapter(file, mini_base.layers)
    for layer, change in mixed.changes.items():
        weight = mini_base.weight(layer).double()
        wanted = weight_change(change, weight)
        assert (weight_change(read.changes[layer], weight) - wanted).norm() < 1e-5 * wanted.norm()


def test_steps_and_title_are_those_of_the_best_adapter(run, tmp_path):
    folder = RunFolder(run("lora"))
    folder.best_adapter_file.parent.mkdir()
    folder.best_adapter_file.write_bytes(folder.adapter_file.read_bytes())
    unknown = dict.fromkeys(RunSummary.model_fields)
    known = {"status": "finished", "steps": 40, "memory_kind": "process resident"}
    counts = ("trainable_parameters", "total_parameters", "adapter_bytes", "training_loss_steps")
    figures = ("peak_memory_gib", "training_loss", "skipped_steps", "seconds")
    summary = RunSummary(
        **{
            **unknown,
            **known,
            **dict.fromkeys((*counts, *figures), 1),
            **dict.fromkeys(("adapter_file", "trace_hash"), "a"),
            "best": {"step": 30, "loss": 1.0, "n": 1},
        }
    )
    folder.write_summary(summary)
    for path, steps in ((folder.path, "40"), (folder.best_adapter_file.parent, "30")):
        export(path, tmp_path / f"{steps}.safetensors", to="a1111")
        texts = header(tmp_path / f"{steps}.safetensors")
        assert texts["ss_steps"] == steps
        assert texts["modelspec.title"] == folder.path.name
