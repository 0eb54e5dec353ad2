"""What was asked for is had, or refused in one line that says what to do."""

from types import SimpleNamespace

import pytest
import torch

from rasengan_xl.config.recipe import load_recipe
from rasengan_xl.engine import integer_choice
from rasengan_xl.engine.integer_choice import are_integers_faster
from rasengan_xl.errors import RecipeError
from rasengan_xl.mini import MODEL_FOLDER
from rasengan_xl.planning import engine_choice
from rasengan_xl.planning.engine_choice import settle_engine
from rasengan_xl.planning.gpus import GPUS
from rasengan_xl.planning.memory_modes import candidate_modes
from rasengan_xl.planning.model_shape import read_shape
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.model_folder import ModelFolder

SHAPE = read_shape(ModelFolder(path=MODEL_FOLDER, name="mini"))
CPU = Compute(torch.device("cpu"), torch.float32)
CUDA = Compute(torch.device("cuda"), torch.bfloat16)


def settle(*overrides, compute=CUDA, unet=SHAPE.skeleton):
    return settle_engine(load_recipe("mini-lora", overrides), unet, compute)


@pytest.mark.parametrize(
    ("overrides", "compute", "told"),
    [
        (["engine.int8_compute=on"], CUDA, "set adapter.base_precision to 'int8'"),
        (["engine.attention=flash"], CPU, "use 'auto' or 'default'"),
        (
            ["engine.memory=recompute-feed-forward", "engine.lean_feed_forward=false"],
            CUDA,
            "use another mode",
        ),
        (["engine.cuda_graph=on"], CPU, "use 'auto' or 'off'"),
        *(
            (["engine.implementation=peft", f"engine.{name}={value}"], CUDA, "leave it out")
            for name, value in (
                ("attention", "cudnn"),
                ("memory", "recompute-feed-forward"),
                ("channels_last", "on"),
                ("cuda_graph", "on"),
                ("int8_compute", "on"),
                ("compile", "true"),
                ("cache_text_kv", "true"),
            )
        ),
    ],
)
def test_what_would_have_no_effect_is_refused(overrides, compute, told):
    with pytest.raises(RecipeError) as refusal:
        settle(*overrides, compute=compute)
    assert told in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_no_mode_is_tried_that_would_be_refused():
    settings = load_recipe("mini-lora", ["engine.lean_feed_forward=false"])
    tried = [mode.options.memory for mode in candidate_modes(settings, SHAPE, GPUS["T4"])]
    assert tried == ["keep-all", "recompute-all"]


class _Here(torch.nn.Module):
    """A UNet that says it is on a GPU."""

    def named_modules(self, *_):
        return SHAPE.skeleton.named_modules()

    def parameters(self, recurse: bool = True):
        yield SimpleNamespace(device=CUDA.device)


def test_integers_are_multiplied_as_such_where_that_was_measured_to_be_faster(monkeypatch):
    asked = []

    def measure(*arguments):
        asked.append(arguments)
        return True

    monkeypatch.setattr(engine_choice, "are_integers_faster", measure)
    auto = ["engine.int8_compute=auto", "dataset.resolution=128", "training.batch_size=3"]
    ints = [*auto, "adapter.base_precision=int8"]
    assert not settle(*ints).int8_compute  # planned, not measured
    assert not settle(*auto, unet=_Here()).int8_compute
    assert asked == []
    assert settle(*ints, unet=_Here()).int8_compute
    assert asked == [(3 * 4 * 4, CUDA.device, CUDA.dtype)]
    assert settle("engine.int8_compute=on", "adapter.base_precision=int8").int8_compute


def test_what_was_measured_of_integers_is_remembered(monkeypatch):
    answers = iter([True, False])
    monkeypatch.setattr(integer_choice, "measure_integers", lambda *_: next(answers))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU of this test")
    told = [are_integers_faster(n, CUDA.device, CUDA.dtype) for n in (64, 64, 128, 64)]
    assert told == [True, True, False, True]
