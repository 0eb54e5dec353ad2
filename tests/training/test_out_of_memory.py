import pytest
import torch

from rasengan_xl.config.settings import RunSettings
from rasengan_xl.errors import MemoryExhaustedError
from rasengan_xl.planning.gpus import GIB
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.records import StepRecord
from rasengan_xl.training.out_of_memory import (
    MemoryWatch,
    asked_for_gib,
    is_out_of_memory,
)
from rasengan_xl.training.run import run_training

CUDA = "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 14.74 GiB"


def real_cpu_error():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55, dtype=torch.uint8)
    return caught.value


def test_every_form_of_running_out_is_known_and_nothing_else():
    assert is_out_of_memory(torch.OutOfMemoryError(CUDA))
    assert is_out_of_memory(real_cpu_error())
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes (2, 3) and (4, 5) do not fit"))


def test_what_was_asked_for_is_read_from_the_message():
    assert asked_for_gib(CUDA) == 2.5
    assert asked_for_gib("Tried to allocate 512.00 MiB") == 0.5
    assert asked_for_gib(str(real_cpu_error())) == 2**55 / GIB
    assert asked_for_gib("out of memory") == 0.0


def test_another_fault_passes_as_it_is():
    with (
        pytest.raises(RuntimeError, match="other"),
        MemoryWatch(settings=RunSettings()).explaining(),
    ):
        raise RuntimeError("other")


@pytest.fixture
def memory_that_ends(monkeypatch):
    """Let a function of the run fail at its n-th call, as PyTorch's allocator does."""

    def become(place, call):
        calls = []
        module, _, name = place.rpartition(".")
        module = __import__(module, fromlist=[name])
        real = getattr(module, name)

        def failing(*arguments):
            calls.append(1)
            if len(calls) == call:
                raise torch.OutOfMemoryError(CUDA)
            return real(*arguments)

        monkeypatch.setattr(module, name, failing)

    return become


def test_a_step_without_memory_is_one_line_with_phase_figures_and_remedies(
    settings, tmp_path, memory_that_ends
):
    memory_that_ends("rasengan_xl.training.step_computer.denoising_losses", call=3)
    folder = RunFolder(tmp_path / "run")
    own = {"memory": "recompute-feed-forward"}
    chosen = settings(training={"save_every": 2}, engine=own)
    with pytest.raises(MemoryExhaustedError) as caught:
        list(run_training(chosen, folder))
    told = str(caught.value)
    assert "\n" not in told
    assert told.startswith("out of memory in the phase 'train': ")
    assert "GiB in use of" in told
    assert "2.50 more asked for" in told
    assert "--set training.batch_size=1 --set training.accumulation=2 saves about " in told
    assert "--set engine.memory=recompute-all saves about " in told
    assert "--set compute.precision=bf16" in told
    assert "in a new run" in told
    assert told.endswith("the last checkpoint are kept: continue with --resume")

    smaller = {"save_every": 2, "batch_size": 1, "accumulation": 2}
    cut = settings(training=smaller, engine=own)
    resumed = list(run_training(cut, folder, resume=True))
    assert [r.step for r in resumed if isinstance(r, StepRecord)] == [3, 4]


@pytest.mark.parametrize(
    ("place", "call", "phase"),
    [
        ("rasengan_xl.training.assembly.load_unet", 1, "load the UNet"),
        ("rasengan_xl.evaluation.held_out.denoising_losses", 2, "held-out loss"),
    ],
)
def test_the_phase_is_named(settings, tmp_path, memory_that_ends, place, call, phase):
    memory_that_ends(place, call)
    with pytest.raises(MemoryExhaustedError, match=f"in the phase '{phase}'"):
        list(run_training(settings(), RunFolder(tmp_path / "run")))
