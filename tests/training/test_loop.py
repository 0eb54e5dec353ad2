from dataclasses import replace
from math import inf, nan

import pytest
import torch

from rasengan_xl.dataset.encoded import EncodedPictures
from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.errors import DivergedError
from rasengan_xl.ranks import ALONE
from rasengan_xl.training.divergence import DivergedStepError
from rasengan_xl.training.loop import choose_computer, train_steps

from ..conftest import METHODS


def gradients_of_first_step(state, task):
    state.adapter.unet.train()
    computer = choose_computer(state, task)
    losses = torch.cat([computer.add_gradient(b) for b in task.stream.part(1, ALONE).batches])
    return losses.mean().item(), {n: g.clone() for n, g in state.adapter.gradients().items()}


@pytest.mark.parametrize("shapes", ["square", "buckets"])
@pytest.mark.parametrize("implementation", ["fused", "peft"])
def test_micro_batches_give_the_gradients_of_one_large_batch(
    settings, make_state_and_task, shapes, implementation
):
    options = EngineOptions(implementation=implementation)
    dataset = {"shapes": shapes, "bucket_multiple": 8}
    whole = settings(training={"batch_size": 4, "accumulation": 1}, dataset=dataset)
    parts = settings(training={"batch_size": 1, "accumulation": 4}, dataset=dataset)
    loss, expected = gradients_of_first_step(*make_state_and_task(whole, options))
    loss_of_parts, gradients = gradients_of_first_step(*make_state_and_task(parts, options))
    assert loss_of_parts == pytest.approx(loss, rel=1e-5)
    assert any(gradient.abs().max() > 0 for gradient in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-7, msg=name)


@pytest.mark.parametrize("method", METHODS)
def test_training_changes_the_adapter_and_never_the_base(settings, make_state_and_task, method):
    state, task = make_state_and_task(settings(adapter=METHODS[method]))
    adapter = state.adapter
    fresh = {name: p.clone() for name, p in adapter.parameters.items()}
    before = {name: p.detach().clone() for name, p in adapter.unet.named_parameters()}
    records = list(train_steps(state, task))
    assert [record.step for record in records] == [1, 2, 3, 4]
    for name, parameter in adapter.parameters.items():
        assert not torch.equal(parameter, fresh[name]), f"{name} did not learn"
    for name, parameter in adapter.unet.named_parameters():
        assert torch.equal(parameter, before[name]), f"{name} of the base changed"


@pytest.mark.parametrize("method", ["lora", "qdora"])
def test_the_same_settings_give_the_same_losses(settings, make_state_and_task, method):
    chosen = settings(adapter={**METHODS[method], "dropout": 0.2})
    runs = [list(train_steps(*make_state_and_task(chosen))) for _ in range(2)]
    assert [r.loss for r in runs[0]] == [r.loss for r in runs[1]]
    assert [r.gradient_norm for r in runs[0]] == [r.gradient_norm for r in runs[1]]


def test_every_method_is_shown_the_same_however_it_is_computed(settings, make_state_and_task):
    traces = set()
    ways = [(method, EngineOptions()) for method in METHODS.values()]
    ways += [(METHODS["dora"], EngineOptions(memory="recompute-all", group_projections=False))]
    ways += [(METHODS["dora"], EngineOptions(implementation="peft"))]
    for method, options in ways:
        state, task = make_state_and_task(settings(adapter=method), options)
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


@pytest.fixture
def spoil(monkeypatch):
    """Give some pictures' latents a value that is not a number, as they are read."""

    def spoil(task, names):
        read = EncodedPictures.posterior
        spoilt = {p.crops[0].key for p in task.stream.pictures.pictures if p.name in names}

        def posterior(pictures, crop):
            found = read(pictures, crop)
            return replace(found, mean=found.mean * nan) if crop.key in spoilt else found

        monkeypatch.setattr(EncodedPictures, "posterior", posterior)

    return spoil


def test_a_loss_that_is_not_finite_names_step_pictures_and_timesteps(
    settings, make_state_and_task, spoil
):
    state, task = make_state_and_task(settings(training={"batch_size": 2}))
    (shown,) = task.stream.part(2, ALONE).shown
    spoil(task, {shown[1].name})
    with pytest.raises(DivergedStepError) as caught:
        list(train_steps(state, task))
    error = caught.value
    assert "step 2: the loss is nan" in str(error)
    assert f"{shown[1].name} (timestep {shown[1].timestep});" in str(error)
    assert shown[0].name not in str(error)
    assert [picture["slot"] for picture in error.evidence.facts["pictures"]] == [1]
    assert set(error.evidence.tensors) >= {"1/latents", "1/noise", "1/timesteps"}
    assert error.evidence.tensors["1/latents"].isnan().all()
    assert state.steps_done == 1


@pytest.mark.parametrize("implementation", ["fused", "peft"])
def test_a_gradient_that_is_not_finite_names_its_layers_too(
    settings, make_state_and_task, monkeypatch, implementation
):
    options = EngineOptions(implementation=implementation)
    state, task = make_state_and_task(settings(), options)
    name = next(iter(state.adapter.parameters))

    def collect(adapter):
        adapter.gradients()[name].fill_(nan)

    monkeypatch.setattr(type(state.adapter), "collect", collect)
    with pytest.raises(DivergedStepError, match="step 1: the gradient's norm is nan in ") as caught:
        list(train_steps(state, task))
    assert caught.value.evidence.facts["layers"] == [name]
    assert len(caught.value.evidence.facts["pictures"]) == 2


class Scaler(torch.amp.GradScaler):
    """A loss scaler of fp16 that finds some steps overflown, which a CPU has no fp16 for."""

    def __init__(self, overflown):
        super().__init__("cpu", init_scale=1.0, enabled=True)
        self.overflown = overflown
        self.step_number = 0

    def unscale_(self, optimizer):
        self.step_number += 1
        if self.step_number in self.overflown:
            for group in optimizer.param_groups:
                group["params"][0].grad.fill_(inf)
        super().unscale_(optimizer)


def test_a_step_that_overflows_in_fp16_changes_nothing_and_is_counted(
    settings, make_state_and_task
):
    state, task = make_state_and_task(settings())
    state.scaler = Scaler({2})
    seen = {}
    for record in train_steps(state, task):
        seen[record.step] = [p.detach().clone() for p in state.adapter.parameters.values()]
        assert record.skipped == (record.step == 2)
        assert (record.gradient_norm is None) == record.skipped
    assert all(torch.equal(a, b) for a, b in zip(seen[1], seen[2], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(seen[2], seen[3], strict=True))
    assert state.skipped_steps == [2]


def test_too_many_overflows_end_the_run(settings, make_state_and_task):
    state, task = make_state_and_task(settings(training={"steps": 40, "most_skipped_share": 0.05}))
    state.scaler = Scaler(range(1, 40, 2))
    with pytest.raises(DivergedError, match="step 11: fp16 overflowed in 6 of the last 100 steps"):
        list(train_steps(state, task))


def test_an_eight_bit_optimizer_learns_too(settings, make_state_and_task):
    state, task = make_state_and_task(settings(training={"optimizer": "adamw8bit"}))
    before = {name: p.detach().clone() for name, p in state.adapter.parameters.items()}
    list(train_steps(state, task))
    assert all(not torch.equal(p, before[n]) for n, p in state.adapter.parameters.items())


@pytest.mark.parametrize("implementation", ["fused", "peft"])
def test_gradient_checkpointing_does_not_change_the_gradients(
    settings, make_state_and_task, implementation
):
    options = EngineOptions(implementation=implementation)
    state, task = make_state_and_task(settings(), options)
    _, expected = gradients_of_first_step(state, task)
    again, task = make_state_and_task(settings(), replace(options, memory="recompute-all"))
    _, gradients = gradients_of_first_step(again, task)
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-5, atol=1e-8)
