import pytest
import torch

from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.dataset.encoded import encode_dataset
from rasengan_xl.evaluation.held_out import build_table, measure_held_out_loss
from rasengan_xl.ranks import ALONE
from rasengan_xl.sdxl.components import load_unet
from rasengan_xl.sdxl.compute import choose_compute
from rasengan_xl.sdxl.model_folder import find_model
from rasengan_xl.sdxl.noise_schedule import load_noise_schedule

from ..exhaust import exhaust


@pytest.fixture
def measure(settings):
    chosen = settings()
    model, compute = find_model(chosen.base_model), choose_compute(chosen.compute)
    schedule = load_noise_schedule(model, zero_terminal_snr=None)
    dataset = exhaust(encode_dataset(chosen, model, compute))
    table = build_table(dataset.train, schedule, settings(evaluation={"timesteps": 3}))

    def run(change=0.0, seed=0, ranks=ALONE):
        adapter = attach_adapter(load_unet(model, compute, "full"), chosen.adapter, seed)
        with torch.no_grad():
            for parameter in adapter.parameters.values():
                parameter.add_(change)
        return exhaust(measure_held_out_loss(adapter, table, 4, compute, ranks))

    return run


def test_a_fresh_adapter_has_the_loss_of_its_base(measure):
    loss = measure()
    assert loss.n == 12
    assert loss.adapted == loss.base
    assert loss.difference == 0
    assert loss.base_standard_error > 0


def test_the_table_is_the_same_for_every_seed_and_adapter(measure):
    one, other = measure(change=0.05, seed=0), measure(change=0.08, seed=1)
    assert one.base == other.base
    assert one.adapted != other.adapted
    assert one.difference == pytest.approx(one.adapted - one.base)
    assert one.difference_standard_error > 0
