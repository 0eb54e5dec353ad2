from dataclasses import dataclass, field
from math import inf, nan

import pytest
import torch
from torch.nn import Parameter
from torch.optim import AdamW

from rasengan_xl.adapters.adapter import Adapter
from rasengan_xl.dataset.trace import TraceHash
from rasengan_xl.training.given_weights import GivenWeights
from rasengan_xl.training.state import TrainingState
from rasengan_xl.training.step_end import StepEnd

RATIOS = (1.0, 16.0)


@dataclass(frozen=True, kw_only=True)
class Toy(Adapter):
    """As much of an adapter as the end of a step knows."""

    settled: list[None] = field(default_factory=list)

    def settle(self):
        self.settled.append(None)

    def clear_gradients(self):
        for parameter in self.trained.values():
            parameter.grad = None


Toy.__abstractmethods__ = frozenset()  # all else is not asked of it


def build_state(*, fused: bool, scaled: bool = False) -> TrainingState:
    torch.manual_seed(0)
    trained = {name: Parameter(torch.randn(5)) for name in ("lora_A", "lora_B")}
    adapter = Toy(
        unet=None, settings=None, options=None, parameters=trained, trained=trained, layers={}
    )
    optimizer = AdamW([{"params": [p]} for p in trained.values()], fused=fused)
    return TrainingState(
        adapter=adapter,
        optimizer=optimizer,
        scaler=torch.amp.GradScaler("cpu", init_scale=4.0, enabled=scaled),
        trace=TraceHash(),
        given=GivenWeights(trained, optimizer, None, adapter.settle),
    )


def take_step(state: TrainingState, end: StepEnd, *, spoilt: float = 1.0, loss: float = 1.0):
    """Take a step on gradients that are twice the weights; return them, and their norm."""
    for group, ratio in zip(state.optimizer.param_groups, RATIOS, strict=True):
        group["lr"] = 1e-3 * ratio
    for parameter in state.adapter.trained.values():
        state.scaler.scale(parameter.square().sum()).backward()
    state.adapter.trained["lora_B"].grad[2] *= spoilt
    end.take_rates()
    norm = end.finish(torch.tensor(loss)).item()
    gradients = [p.grad for p in state.adapter.trained.values()]
    state.adapter.clear_gradients()
    return norm, gradients


def weights_of(state: TrainingState) -> list[torch.Tensor]:
    return [p.detach().clone() for p in state.adapter.trained.values()]


@pytest.mark.parametrize("scaled", [False, True])
def test_a_device_that_decides_by_itself_takes_the_same_steps(scaled: bool):
    device, host = build_state(fused=True, scaled=scaled), build_state(fused=False, scaled=scaled)
    ends = [StepEnd(state, 1.0) for state in (device, host)]
    assert [end.waits_for_nothing for end in ends] == [True, False]
    for step in range(4):
        norms = [
            take_step(state, end, spoilt=inf if step == 2 and scaled else 1.0)[0]
            for state, end in zip((device, host), ends, strict=True)
        ]
        assert norms[0] == norms[1]
    torch.testing.assert_close(weights_of(device), weights_of(host), rtol=1e-6, atol=1e-7)
    assert device.scaler.state_dict() == host.scaler.state_dict()
    assert len(device.adapter.settled) == 4


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(("spoilt", "loss"), [(nan, 1.0), (inf, 1.0), (1.0, inf), (1.0, nan)])
def test_a_void_step_changes_nothing(fused: bool, spoilt: float, loss: float):
    state, twin = build_state(fused=fused), build_state(fused=fused)
    end, end_of_twin = StepEnd(state, 1.0), StepEnd(twin, 1.0)
    for one, its_end in ((state, end), (twin, end_of_twin)):
        take_step(one, its_end)
    before = weights_of(state)
    take_step(state, end, spoilt=spoilt, loss=loss)
    assert all(map(torch.equal, weights_of(state), before))
    # Moments and the count of steps are as they were, too: the next step is the twin's.
    take_step(state, end)
    take_step(twin, end_of_twin)
    assert all(map(torch.equal, weights_of(state), weights_of(twin)))


def test_gradients_of_a_void_step_tell_whose_fault_it_is():
    state = build_state(fused=True)
    _, gradients = take_step(state, StepEnd(state, 1e-3), spoilt=nan)
    assert [bool(g.isfinite().all()) for g in gradients] == [True, False]


def test_what_a_checkpoint_holds_knows_nothing_of_it():
    state = build_state(fused=True)
    take_step(state, StepEnd(state, 1.0))
    described = state.optimizer.state_dict()["param_groups"]
    assert [group["lr"] for group in described] == [1e-3 * ratio for ratio in RATIOS]
    assert not any(group["capturable"] for group in described)
    assert not hasattr(state.optimizer, "found_inf")


def test_each_group_learns_at_its_own_rate():
    state = build_state(fused=True)
    before = weights_of(state)
    take_step(state, StepEnd(state, 1.0))
    slow, fast = ((a - b).abs().max() for a, b in zip(weights_of(state), before, strict=True))
    assert 10 < fast / slow < 20
