import pytest
import torch
from torch.nn import Parameter

from rasengan_xl.config.training_settings import TrainingSettings
from rasengan_xl.planning.optimizer_memory import moments_bytes
from rasengan_xl.training.optimizer import build_optimizer
from rasengan_xl.training.optimizer_state import flatten_optimizer

RATES = {"prodigy": 1.0}


@pytest.mark.parametrize("name", ["adamw", "adamw8bit", "prodigy", "schedule_free_adamw"])
def test_an_optimizer_keeps_what_is_planned_for_it(name):
    plain = {"schedule": "constant"} if name == "schedule_free_adamw" else {}
    settings = TrainingSettings(optimizer=name, learning_rate=RATES.get(name, 1e-4), **plain)
    trained = {"lora_A": Parameter(torch.randn(256, 512)), "lora_B": Parameter(torch.randn(2048))}
    optimizer = build_optimizer(trained, settings)
    for parameter in trained.values():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    kept = sum(
        value.numel() * value.element_size()
        for value in flatten_optimizer(optimizer).values()
        if isinstance(value, torch.Tensor) and value.numel() != 256  # code books, shared by all
    )
    assert moments_bytes(list(trained.values()), name) == pytest.approx(kept, rel=0.01)
