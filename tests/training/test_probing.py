import pytest
import torch

from rasengan_xl.errors import MemoryExhaustedError, ModelError
from rasengan_xl.planning.known_costs import recall_steps
from rasengan_xl.training import probing
from rasengan_xl.training.probing import probe_steps


def test_a_few_real_steps_are_timed_and_remembered(settings):
    chosen = settings(training={"weight_decay": 0.0321})
    probed = probe_steps(chosen)
    assert probed.seconds_per_step > 0
    assert (probed.memory, probed.allocated_gib) == ("keep-all", None)
    newest, seconds = recall_steps(probed.device_name)[0]
    assert (newest.training.weight_decay, seconds) == (0.0321, probed.seconds_per_step)


def test_a_model_that_is_not_here_is_not_fetched_for_it(settings):
    absent = settings().model_copy(update={"base_model": "nobody/nothing", "base_revision": None})
    with pytest.raises(ModelError, match="--probe: .* is not on this machine"):
        probe_steps(absent)


def test_steps_that_do_not_fit_are_told_in_one_line(settings, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(probing, "_assemble", fail)
    with pytest.raises(MemoryExhaustedError, match="in the phase 'load the UNet'"):
        probe_steps(settings())
