import pytest
import torch

from rasengan_xl.mini.pretrain.fitting import FitSettings, fit


def make_problem():
    torch.manual_seed(0)
    module = torch.nn.Linear(3, 2)

    def loss_at_step(generator):
        inputs = torch.randn(8, 3, generator=generator)
        return (module(inputs) - inputs[:, :2]).square().mean()

    return module, loss_at_step


def settings(steps):
    return FitSettings(steps=steps, learning_rate=0.05, seed=1, warmup_steps=2, save_every=2)


def test_a_fit_learns(tmp_path):
    module, loss = make_problem()
    records = list(fit(module, loss, settings(60), tmp_path / "state.safetensors"))
    assert records[-1].loss < records[0].loss / 5


@pytest.mark.parametrize("stop", [2, 4])
def test_a_fit_that_was_stopped_goes_on_exactly(tmp_path, stop):
    module, loss = make_problem()
    expected = list(fit(module, loss, settings(6), tmp_path / "whole.safetensors"))

    broken, loss = make_problem()
    for record in fit(broken, loss, settings(6), tmp_path / "broken.safetensors"):
        if record.step == stop:
            break
    again, loss = make_problem()
    rest = list(fit(again, loss, settings(6), tmp_path / "broken.safetensors"))
    assert rest == expected[stop:]
    assert torch.equal(again.weight, module.weight)
