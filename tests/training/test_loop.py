import pytest
import torch

from rasengan_xl.errors import DivergedError
from rasengan_xl.training.loop import add_up_gradients, train_steps

from ..conftest import METHODS


def gradients_of_first_step(state, task):
    state.adapter.unet.train()
    loss = add_up_gradients(state, task, step=1)
    return loss, {name: p.grad.clone() for name, p in state.adapter.parameters.items()}


def test_micro_batches_give_the_gradients_of_one_large_batch(settings, make_state_and_task):
    whole = settings(training={"batch_size": 4, "accumulation": 1})
    parts = settings(training={"batch_size": 1, "accumulation": 4})
    loss, expected = gradients_of_first_step(*make_state_and_task(whole))
    loss_of_parts, gradients = gradients_of_first_step(*make_state_and_task(parts))
    assert loss_of_parts == pytest.approx(loss, rel=1e-5)
    assert any(gradient.abs().max() > 0 for gradient in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-7, msg=name)


def test_micro_batches_and_one_large_batch_show_the_same_pictures(settings, make_state_and_task):
    whole, whole_task = make_state_and_task(settings(training={"batch_size": 4}))
    parts, parts_task = make_state_and_task(settings(training={"batch_size": 2, "accumulation": 2}))
    big = next(iter(whole_task.stream.micro_batches(1, whole.trace)))
    small = list(parts_task.stream.micro_batches(1, parts.trace))
    for name in ("latents", "noise", "timesteps", "prompts", "size_numbers"):
        joined = torch.cat([getattr(batch, name) for batch in small])
        assert torch.equal(joined, getattr(big, name)), name


@pytest.mark.parametrize("method", METHODS)
def test_training_changes_the_adapter_and_never_the_base(settings, make_state_and_task, method):
    state, task = make_state_and_task(settings(adapter=METHODS[method]))
    unet = state.adapter.unet
    before = {name: p.detach().clone() for name, p in unet.named_parameters()}
    records = list(train_steps(state, task))
    assert [record.step for record in records] == [1, 2, 3, 4]
    for name, parameter in unet.named_parameters():
        if name in state.adapter.parameters:
            assert not torch.equal(parameter, before[name]), f"{name} did not learn"
        else:
            assert torch.equal(parameter, before[name]), f"{name} of the base changed"


@pytest.mark.parametrize("method", ["lora", "qdora"])
def test_the_same_settings_give_the_same_losses(settings, make_state_and_task, method):
    chosen = settings(adapter={**METHODS[method], "dropout": 0.2})
    runs = [list(train_steps(*make_state_and_task(chosen))) for _ in range(2)]
    assert [r.loss for r in runs[0]] == [r.loss for r in runs[1]]
    assert [r.gradient_norm for r in runs[0]] == [r.gradient_norm for r in runs[1]]


def test_every_method_is_shown_the_same(settings, make_state_and_task):
    traces = set()
    for method in METHODS.values():
        state, task = make_state_and_task(settings(adapter=method))
        list(train_steps(state, task))
        traces.add(state.trace.state)
    assert len(traces) == 1


def test_another_seed_is_shown_something_else(settings, make_state_and_task):
    traces = set()
    for seed in (1, 2):
        state, task = make_state_and_task(settings(seed=seed))
        list(train_steps(state, task))
        traces.add(state.trace.state)
    assert len(traces) == 2


def test_the_learning_rate_ends_where_its_schedule_ends_whatever_the_accumulation(
    settings, make_state_and_task
):
    ends = []
    for accumulation in (1, 3):
        chosen = settings(training={"accumulation": accumulation, "schedule": "linear"})
        ends.append([r.learning_rate for r in train_steps(*make_state_and_task(chosen))])
    assert ends[0] == ends[1]
    assert ends[0][-1] == pytest.approx(1e-2 / 3)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(settings, make_state_and_task):
    state, task = make_state_and_task(settings())
    task.stream.pictures.means.fill_(float("nan"))
    with pytest.raises(DivergedError, match="step 1: the loss is nan"):
        list(train_steps(state, task))


def test_an_eight_bit_optimizer_learns_too(settings, make_state_and_task):
    state, task = make_state_and_task(settings(training={"optimizer": "adamw8bit"}))
    before = {name: p.detach().clone() for name, p in state.adapter.parameters.items()}
    list(train_steps(state, task))
    assert all(not torch.equal(p, before[n]) for n, p in state.adapter.parameters.items())


def test_gradient_checkpointing_does_not_change_the_gradients(settings, make_state_and_task):
    state, task = make_state_and_task(settings())
    _, expected = gradients_of_first_step(state, task)
    again, task = make_state_and_task(settings())
    again.adapter.unet.enable_gradient_checkpointing()
    _, gradients = gradients_of_first_step(again, task)
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-5, atol=1e-8)
