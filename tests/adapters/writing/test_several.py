import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from rasengan_xl.adapters.changes import LowRank, weight_change
from rasengan_xl.adapters.consumers.targets import find_target
from rasengan_xl.adapters.files import begins_from_pure_noise
from rasengan_xl.adapters.low_rank import Limits, relative_distance
from rasengan_xl.adapters.reading.any_form import read_adapter
from rasengan_xl.adapters.writing.adapter_file import write_adapter
from rasengan_xl.adapters.writing.conversion import ExportOptions
from rasengan_xl.adapters.writing.several import export_adapters
from rasengan_xl.config.requests import export_settings
from rasengan_xl.errors import RecipeError
from rasengan_xl.sdxl.model_folder import find_model
from rasengan_xl.sdxl.stored_weights import StoredWeights
from rasengan_xl.tensor_file import read_header

from .random_contents import ATTENTION, TEXT, finish, random_contents

LAYERS = (*ATTENTION[:2], TEXT[0])


@pytest.fixture(scope="module")
def files(mini_base, tmp_path_factory):
    """A LoRA for ComfyUI and a DoRA for diffusers."""
    folder = tmp_path_factory.mktemp("files")
    written = []
    for kind, consumer in (("lora", "comfyui"), ("dora", "diffusers")):
        options = ExportOptions(target=find_target(consumer), limits=Limits(residual=0.01))
        contents = random_contents(mini_base, kind, LAYERS)
        file = folder / f"{kind}.safetensors"
        finish(write_adapter(contents, mini_base, file, options, lambda _: {}))
        written.append(file)
    return written


def export(paths, out, **options):
    return finish(export_adapters(paths, "mini", out, export_settings(**options)))


def wanted_of(files, base, layer, weights):
    contents = [read_adapter(file, base.layers) for file in files]
    weight = base.weight(layer)
    return sum(
        w * weight_change(c.changes[layer], weight) for c, w in zip(contents, weights, strict=True)
    )


def test_loras_of_several_programs_become_one_exact_sum(files, mini_base, tmp_path):
    out = tmp_path / "sum.safetensors"
    pair = [files[0], files[0]]
    exported = export(pair, out, to="kohya", weights=(0.7, 0.3))
    assert exported.approximated == ()
    assert exported.worst.relative < 1e-5
    with safe_open(out, "pt") as file:
        told = file.metadata()
    assert told["modelspec.merged_from"] == "0.7 x lora + 0.3 x lora"
    assert told["modelspec.title"] == "lora + lora"
    for layer, change in read_adapter(out, mini_base.layers).changes.items():
        assert isinstance(change, LowRank)
        assert change.rank == 8
        wanted = wanted_of(pair, mini_base, layer, (0.7, 0.3))
        assert relative_distance(weight_change(change, mini_base.weight(layer)), wanted) < 1e-5


def test_a_sum_begins_from_pure_noise_if_one_of_its_parts_does(files, tmp_path):
    pure, out = tmp_path / "pure.safetensors", tmp_path / "sum.safetensors"
    save_file(load_file(files[0]), pure, {"ss_zero_terminal_snr": "True"})
    exported = export([files[0], pure], out, to="comfyui")
    assert any("zero terminal SNR" in note for note in exported.notes)
    assert begins_from_pure_noise(out)
    assert not begins_from_pure_noise(files[0])


@pytest.mark.parametrize("merge", ["linear", "svd", "ties", "dare"])
def test_every_way_says_what_its_rank_leaves_out(files, tmp_path, merge):
    out = tmp_path / "one.safetensors"
    exported = export(files, out, to="diffusers", merge=merge, rank=12, weights=(1, 0.5))
    assert {each.rank for each in exported.approximated} == {12}
    assert 0 < exported.overall_residual < 1


def test_a_sum_of_any_kind_goes_into_the_base_exactly(files, mini_base, tmp_path):
    export(files, tmp_path / "model", to="merged", dtype="fp32", weights=(1, 0.5))
    model = find_model(str(tmp_path / "model"))
    told = read_header(StoredWeights(model).describe(f"{LAYERS[0]}.weight").file)
    assert told["modelspec.merged_from"] == "mini, 1 x lora + 0.5 x dora at strength 1"
    merged = StoredWeights(model)
    for layer in LAYERS:
        found = merged.read(f"{layer}.weight") - mini_base.weight(layer)
        wanted = wanted_of(files, mini_base, layer, (1, 0.5))
        assert relative_distance(found, wanted) < 1e-4


@pytest.mark.parametrize(
    ("count", "options", "fault"),
    [
        (2, {"weights": (1.0,)}, "there are 1 for 2 adapters"),
        (1, {"weights": (1.0,)}, "of one, use --strength"),
        (1, {"merge": "ties"}, "takes several adapters"),
        (2, {"density": 1.0}, "density"),
        (2, {"to": "merged", "merge": "svd"}, "merged holds whole weights"),
    ],
)
def test_a_mistake_is_one_line(files, tmp_path, count, options, fault):
    with pytest.raises(RecipeError, match=fault) as caught:
        export(files[:count], tmp_path / "out", **{"to": "kohya", **options})
    assert "\n" not in str(caught.value)
