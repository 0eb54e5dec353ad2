import pytest
import torch
from torch.nn import Parameter

from rasengan_xl.config.training_settings import TrainingSettings
from rasengan_xl.training.given_weights import GivenWeights
from rasengan_xl.training.optimizer import build_optimizer

STEPS = [torch.tensor([1.0, -2.0]), torch.tensor([3.0, 0.5]), torch.tensor([-1.0, 4.0])]


def make(ema_decay=None, optimizer="adamw"):
    settings = TrainingSettings(
        optimizer=optimizer, schedule="constant", warmup_steps=0, learning_rate=0.1
    )
    parameters = {"a.lora_A.weight": Parameter(torch.tensor([0.25, 7.0]))}
    built = build_optimizer(parameters, settings)
    return parameters, built, GivenWeights(parameters, built, ema_decay, lambda: None)


def put(parameters, values):
    with torch.no_grad():
        parameters["a.lora_A.weight"].copy_(values)


def given(parameters, weights):
    with weights.in_place():
        return parameters["a.lora_A.weight"].detach().clone()


def test_the_average_weighs_steps_by_age_and_leaves_out_the_fresh_adapter():
    parameters, _, weights = make(ema_decay=0.9)
    assert torch.equal(given(parameters, weights), torch.tensor([0.25, 7.0]))  # no step yet
    put(parameters, STEPS[0])
    weights.update()
    assert torch.equal(given(parameters, weights), STEPS[0])
    for values in STEPS[1:]:
        put(parameters, values)
        weights.update()
    expected = (0.81 * STEPS[0] + 0.9 * STEPS[1] + STEPS[2]) / (0.81 + 0.9 + 1)
    torch.testing.assert_close(given(parameters, weights), expected)


def take_step(parameters, optimizer):
    weight = parameters["a.lora_A.weight"]
    (weight - torch.tensor([1.0, -1.0])).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def test_schedule_free_gives_out_the_average_of_its_steps():
    parameters, optimizer, weights = make(optimizer="schedule_free_adamw")
    states = []
    for _ in range(4):
        take_step(parameters, optimizer)
        states.append(optimizer.state[parameters["a.lora_A.weight"]]["z"].clone())
    # At a constant learning rate the average of arXiv:2405.15682, eq. 5, weighs all steps alike.
    torch.testing.assert_close(given(parameters, weights), torch.stack(states).mean(dim=0))


@pytest.mark.parametrize(
    ("optimizer", "ema_decay"), [("schedule_free_adamw", None), ("adamw", 0.7), ("adamw", None)]
)
def test_looking_at_the_weights_given_out_does_not_disturb_training(optimizer, ema_decay):
    undisturbed, built, weights = make(ema_decay, optimizer)
    for _ in range(6):
        take_step(undisturbed, built)
        weights.update()

    parameters, built, weights = make(ema_decay, optimizer)
    for _ in range(6):
        take_step(parameters, built)
        weights.update()
        before = parameters["a.lora_A.weight"].detach().clone()
        flags = [group.get("train_mode") for group in built.param_groups]
        with weights.in_place():
            pass
        assert torch.equal(parameters["a.lora_A.weight"], before)
        assert [group.get("train_mode") for group in built.param_groups] == flags
    assert torch.equal(parameters["a.lora_A.weight"], undisturbed["a.lora_A.weight"])


def test_the_trained_weights_come_back_after_an_error_too():
    parameters, _, weights = make(ema_decay=0.5)
    for values in STEPS:
        put(parameters, values)
        weights.update()
    with pytest.raises(ZeroDivisionError), weights.in_place():
        _ = 1 / torch.equal(parameters["a.lora_A.weight"], STEPS[2])  # not equal: 1 / 0
    assert torch.equal(parameters["a.lora_A.weight"], STEPS[2])


def test_without_an_average_the_weights_are_given_out_as_they_are():
    parameters, _, weights = make()
    put(parameters, STEPS[0])
    weights.update()
    assert torch.equal(given(parameters, weights), STEPS[0])
    assert weights.state_dict() == {}
    weights.load_state_dict({})


def test_an_average_goes_on_from_its_state_bit_for_bit():
    parameters, _, whole = make(ema_decay=0.8)
    again, _, resumed = make(ema_decay=0.8)
    for values in STEPS[:2]:
        put(parameters, values)
        whole.update()
    resumed.load_state_dict({n: t.clone() for n, t in whole.state_dict().items()})
    for each, weights in ((parameters, whole), (again, resumed)):
        put(each, STEPS[2])
        weights.update()
    assert torch.equal(given(again, resumed), given(parameters, whole))
