import pytest
import torch

from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.config.settings import EvaluationSettings
from rasengan_xl.evaluation.held_out import measure_held_out_loss
from rasengan_xl.sdxl.components import load_unet
from rasengan_xl.sdxl.compute import choose_compute
from rasengan_xl.sdxl.model_folder import find_model
from rasengan_xl.sdxl.noise_schedule import load_noise_schedule

from ..dataset.test_stream import make_pictures


def exhaust(generator):
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value


@pytest.fixture
def measure(settings):
    chosen = settings()
    model, compute = find_model(chosen.base_model), choose_compute(chosen.compute)
    pictures = make_pictures(count=5)
    padded = torch.nn.functional.pad(pictures.prompts, (0, 112))
    pictures = type(pictures)(
        **{n: getattr(pictures, n) for n in pictures.__slots__ if "prompts" not in n},
        prompts=padded,
        pooled_prompts=torch.zeros(5, 64),
    )

    def run(change=0.0, seed=0):
        adapter = attach_adapter(load_unet(model, compute, "full"), chosen.adapter, seed)
        with torch.no_grad():
            for parameter in adapter.parameters.values():
                parameter.add_(change)
        wanted = EvaluationSettings(pictures=4, timesteps=3)
        schedule = load_noise_schedule(model, zero_terminal_snr=None)
        return exhaust(measure_held_out_loss(adapter, pictures, schedule, compute, wanted))

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
