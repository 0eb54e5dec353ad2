import importlib.util
import json

import pytest
import torch
from pydantic import ValidationError
from torch import is_tensor
from torch.nn import Parameter

from rasengan_xl.config.training_settings import TrainingSettings
from rasengan_xl.errors import DeviceError
from rasengan_xl.training.optimizer import (
    build_optimizer,
    check_optimizer,
    learning_rate_at,
    set_learning_rate,
)
from rasengan_xl.training.optimizer_state import (
    find_misfit,
    flatten_optimizer,
    restore_optimizer,
)

ON_A_CPU = {
    "adamw": {"learning_rate": 1e-2},
    "adamw8bit": {"learning_rate": 1e-2},
    "prodigy": {"learning_rate": 1.0},
    "schedule_free_adamw": {"learning_rate": 1e-2, "schedule": "constant"},
}


def schedule(**changes):
    settings = TrainingSettings(
        **{"steps": 100, "warmup_steps": 10, "learning_rate": 1.0, **changes}
    )
    return [learning_rate_at(step, settings) for step in range(1, settings.steps + 1)]


def test_warm_up_climbs_linearly_to_the_peak():
    assert schedule()[:10] == pytest.approx([0.1 * i for i in range(1, 11)])


@pytest.mark.parametrize("name", ["cosine", "linear", "constant"])
def test_the_peak_is_held_at_the_end_of_warm_up(name):
    assert schedule(schedule=name)[10] == 1.0


def test_cosine_and_linear_end_just_above_zero_and_constant_stays():
    assert 0 < schedule(schedule="cosine")[-1] < 0.001
    assert schedule(schedule="linear")[-1] == pytest.approx(1 / 90)
    assert schedule(schedule="constant")[-1] == 1.0


def test_cosine_is_half_way_down_in_the_middle():
    assert schedule(schedule="cosine")[55] == pytest.approx(0.5)


@pytest.mark.parametrize("accumulation", [1, 4])
def test_accumulation_does_not_move_the_schedule(accumulation):
    assert schedule(accumulation=accumulation) == schedule()


def test_without_warm_up_the_first_step_has_the_peak():
    assert schedule(warmup_steps=0)[0] == 1.0


def make_parameters():
    """Build an adapter of one layer; its B starts at zero, its A is large enough for 8 bits."""
    generator = torch.Generator().manual_seed(0)
    return {
        "to_q.lora_A.default.weight": Parameter(torch.randn(64, 80, generator=generator)),
        "to_q.lora_B.default.weight": Parameter(torch.zeros(80, 64)),
        "to_q.lora_magnitude_vector.default.weight": Parameter(torch.ones(80)),
    }


def make_settings(optimizer, **changes):
    return TrainingSettings(**{"optimizer": optimizer, **ON_A_CPU.get(optimizer, {}), **changes})


def error_of(parameters):
    a, b, magnitude = parameters.values()
    target = torch.linspace(-1, 1, 80 * 80).view(80, 80)
    return ((b @ a * magnitude[:, None] - target) ** 2).mean()


def take_steps(parameters, optimizer, settings, steps):
    for step in steps:
        set_learning_rate(optimizer, learning_rate_at(step, settings))
        error_of(parameters).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


@pytest.mark.parametrize("name", ON_A_CPU)
def test_two_steps_and_two_after_a_restore_are_four_steps_bit_for_bit(name):
    settings = make_settings(name, warmup_steps=3, steps=5)
    whole = make_parameters()
    take_steps(whole, build_optimizer(whole, settings), settings, range(1, 5))

    first = make_parameters()
    optimizer = build_optimizer(first, settings)
    take_steps(first, optimizer, settings, range(1, 3))
    kept = flatten_optimizer(optimizer)
    numbers = json.loads(json.dumps({k: v for k, v in kept.items() if not is_tensor(v)}))
    second = {name: Parameter(p.detach().clone()) for name, p in first.items()}
    again = build_optimizer(second, settings)
    values = numbers | {k: v for k, v in kept.items() if is_tensor(v)}
    assert find_misfit(again, values) is None
    restore_optimizer(again, values)
    take_steps(second, again, settings, range(3, 5))

    for parameter, expected in zip(second.values(), whole.values(), strict=True):
        assert torch.equal(parameter, expected)


@pytest.mark.parametrize("name", ON_A_CPU)
def test_every_optimizer_comes_nearer_to_its_goal(name):
    settings = make_settings(name, steps=300, warmup_steps=1)
    parameters = make_parameters()
    before = error_of(parameters).item()
    take_steps(parameters, build_optimizer(parameters, settings), settings, range(1, 121))
    assert error_of(parameters).item() < 0.8 * before


def test_lora_plus_makes_the_matrices_b_alone_learn_faster():
    settings = make_settings("adamw", lora_plus_ratio=16.0, learning_rate=1e-3)
    parameters = make_parameters()
    optimizer = build_optimizer(parameters, settings)
    set_learning_rate(optimizer, 5e-4)
    rates = {
        id(parameter): group["lr"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert [rates[id(p)] for p in parameters.values()] == [5e-4, 16 * 5e-4, 5e-4]


def test_without_lora_plus_there_is_one_group():
    groups = build_optimizer(make_parameters(), make_settings("adamw")).param_groups
    assert [len(group["params"]) for group in groups] == [3]
    assert [group["lr_ratio"] for group in groups] == [1.0]


def test_prodigy_finds_a_learning_rate_and_says_nothing(capsys):
    settings = make_settings("prodigy", warmup_steps=1)
    parameters = make_parameters()
    optimizer = build_optimizer(parameters, settings)
    take_steps(parameters, optimizer, settings, range(1, 61))
    assert optimizer.param_groups[0]["d"] > 1e-4  # from its first guess of 1e-6
    assert capsys.readouterr().out == ""


def test_paging_without_a_gpu_is_refused():
    with pytest.raises(DeviceError, match="use 'adamw8bit'"):
        build_optimizer(make_parameters(), make_settings("paged_adamw8bit"))
    check_optimizer(make_settings("paged_adamw8bit"), torch.device("cuda"))


@pytest.mark.parametrize(
    ("name", "library"), [("prodigy", "prodigyopt"), ("schedule_free_adamw", "schedulefree")]
)
def test_a_library_that_is_not_there_is_named_with_its_remedy(monkeypatch, name, library):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == library else find(n))
    with pytest.raises(DeviceError, match=rf"{library}.*pip install 'rasengan-xl\[optimizers\]'"):
        check_optimizer(make_settings(name), torch.device("cpu"))
    check_optimizer(make_settings("adamw"), torch.device("cpu"))


def test_one_average_is_enough():
    with pytest.raises(ValidationError, match="leave ema_decay out"):
        make_settings("schedule_free_adamw", ema_decay=0.9)
