"""Recorded steps against steps of single kernels: on a GPU with CUDA graphs, else without."""

import warnings

import pytest
import torch

from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.dataset.trace import TraceHash
from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.engine.step_graph import GpuRecorder
from rasengan_xl.mini.architecture import TEXT_WIDTH
from rasengan_xl.sdxl.components import load_unet
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.model_folder import find_model
from rasengan_xl.sdxl.noise_schedule import load_noise_schedule
from rasengan_xl.sdxl.objective import LatentBatch, plain_objective
from rasengan_xl.training.given_weights import GivenWeights
from rasengan_xl.training.optimizer import build_optimizer, set_learning_rate
from rasengan_xl.training.state import TrainingState
from rasengan_xl.training.step_computer import EagerStep, RecordedStep
from rasengan_xl.training.step_end import StepEnd

from ..conftest import METHODS

STEPS = [(8, 12), (8, 8), (12, 12), (12, 8), (8, 12)]
"""Widths of the two micro-batches of each step."""
OVERFLOWING = 4
ON_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CPU = Compute(torch.device("cpu"), torch.float32)
BF16 = Compute(torch.device("cuda", 0), torch.bfloat16)
FP16 = Compute(torch.device("cuda", 0), torch.float16)


class CpuRecorder:
    """Records what a processor shall do again; counts how much of it was done again."""

    def __init__(self):
        self.replays = 0

    def __call__(self, function):
        result = torch.zeros(())

        def replay():
            nonlocal result
            self.replays += 1
            found = function()
            if result.shape != found.shape:
                result = torch.empty_like(found)
            return result.copy_(found)  # as a graph does, always into the same place

        return replay


def draw_batch(seed: int, width: int) -> LatentBatch:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, 4, 8, width)
    batch = LatentBatch(
        latents=torch.randn(shape, generator=generator),
        noise=torch.randn(shape, generator=generator),
        timesteps=torch.randint(1000, (2,), generator=generator),
        prompts=torch.randn(2, 77, 2 * TEXT_WIDTH, generator=generator),
        pooled_prompts=torch.randn(2, TEXT_WIDTH, generator=generator),
        size_numbers=torch.tensor([[64, 64, 0, 0, 64, 8 * width]] * 2),
    )
    return batch.pinned() if torch.cuda.is_available() else batch


@pytest.fixture
def start(settings, tiny_model):
    """Build a run's state, and what computes its steps one kernel at a time."""

    def start(compute: Compute, method: str, **options):
        chosen = settings(adapter={**METHODS[method], "dropout": options.pop("dropout", 0.0)})
        model = find_model(str(tiny_model))
        unet = load_unet(model, compute, chosen.adapter.base_precision)
        adapter = attach_adapter(unet, chosen.adapter, 7, EngineOptions(**options))
        unet.train()
        optimizer = build_optimizer(adapter.trained, chosen.training)
        if compute is CPU:  # else a processor takes the end of a step by itself, unrecorded
            kept = ("params", "lr", "lr_ratio")
            groups = [{name: group[name] for name in kept} for group in optimizer.param_groups]
            optimizer = torch.optim.AdamW(groups, fused=True)
        state = TrainingState(
            adapter=adapter,
            optimizer=optimizer,
            given=GivenWeights(adapter.trained, optimizer, None, adapter.settle),
            scaler=torch.amp.GradScaler(compute.device.type, enabled=compute is FP16),
            trace=TraceHash(),
        )
        objective = plain_objective(load_noise_schedule(model, zero_terminal_snr=None)).to(
            compute.device
        )
        eager = EagerStep(
            state=state,
            objective=objective,
            compute=compute,
            pictures_per_step=4,
            end=StepEnd(state, 1.0),
        )
        return state, eager

    return start


def take_steps(state: TrainingState, computer, first: int = 1, last: int = len(STEPS)):
    """Take steps; return every loss and norm that was measured, and the weights."""
    measured: list[float] = []
    for step in range(first, last + 1):
        torch.manual_seed(step)
        if step == OVERFLOWING and state.scaler.is_enabled():
            state.scaler.update(2.0**60)
        batches = [draw_batch(10 * step + i, width) for i, width in enumerate(STEPS[step - 1])]
        losses = torch.cat([computer.add_gradient(batch) for batch in batches])
        set_learning_rate(state.optimizer, 1e-2 / step)
        norm = computer.finish(losses.sum())
        measured += [*losses.tolist(), norm.item()]
        state.adapter.clear_gradients()
        if step == OVERFLOWING and state.scaler.is_enabled():
            assert measured[-1] != measured[-1] or measured[-1] == float("inf")
            state.scaler.update(2.0**10)
    return measured, {name: w.detach().clone() for name, w in state.adapter.parameters.items()}


def recorded(eager: EagerStep) -> RecordedStep:
    recorder = CpuRecorder if eager.compute is CPU else GpuRecorder
    return RecordedStep(eager, recorder, pytest.fail)


def name_case(value: object) -> str:
    return str(value.dtype) if isinstance(value, Compute) else str(value)


def on_gpu(*values: object):
    return pytest.param(*values, marks=ON_GPU)


@pytest.mark.parametrize(
    ("compute", "method"),
    [(CPU, "dora"), *(on_gpu(compute, name) for compute in (BF16, FP16) for name in METHODS)],
    ids=name_case,
)
def test_recorded_steps_are_to_the_bit_those_of_single_kernels(start, compute, method):
    with torch.backends.cudnn.flags(deterministic=True):
        state, eager = start(compute, method)
        expected, weights = take_steps(state, eager)
        again, eager = start(compute, method)
        found, found_weights = take_steps(again, recorded(eager))
    assert str(found) == str(expected)  # of two that are no numbers, too
    assert all(torch.equal(found_weights[name], weights[name]) for name in weights)
    assert any(w.count_nonzero() for name, w in weights.items() if ".lora_B." in name)
    assert again.scaler.state_dict() == state.scaler.state_dict()


@pytest.mark.parametrize(
    ("compute", "memory"),
    [(CPU, "keep-all"), on_gpu(BF16, "keep-all"), on_gpu(BF16, "recompute-feed-forward")],
    ids=name_case,
)
def test_dropout_falls_where_it_falls_in_single_kernels(start, compute, memory):
    with torch.backends.cudnn.flags(deterministic=True):
        state, eager = start(compute, "lora", dropout=0.3, memory=memory)
        expected, _ = take_steps(state, eager)
        again, eager = start(compute, "lora", dropout=0.3, memory=memory)
        assert take_steps(again, recorded(eager))[0] == expected
        without, eager = start(compute, "lora", memory=memory)
        assert take_steps(without, eager)[0] != expected


@pytest.mark.parametrize(
    ("compute", "memory"),
    [(CPU, "recompute-all"), on_gpu(BF16, "keep-all"), on_gpu(BF16, "recompute-all")],
    ids=name_case,
)
def test_a_run_that_goes_on_is_the_run_that_never_stopped(start, compute, memory, tmp_path):
    with torch.backends.cudnn.flags(deterministic=True):
        whole, eager = start(compute, "dora", memory=memory)
        measured, weights = take_steps(whole, recorded(eager))
        first, eager = start(compute, "dora", memory=memory)
        before, _ = take_steps(first, recorded(eager), last=3)
        first.save(tmp_path / "state")
        second, eager = start(compute, "dora", memory=memory)
        second.restore(tmp_path / "state")
        after, found = take_steps(second, recorded(eager), first=4)
    assert before + after == measured
    assert all(torch.equal(found[name], weights[name]) for name in weights)


def test_a_step_that_is_seen_again_is_replayed(start):
    _, eager = start(CPU, "lora")
    record = CpuRecorder()
    take_steps(eager.state, RecordedStep(eager, lambda: record, pytest.fail))
    # All micro-batches but the first of each width, and all ends but the first.
    assert record.replays == (10 - 2) + (5 - 1)


def test_a_recording_that_fails_on_its_way_back_leaves_no_gradient(start):
    told: list[str] = []

    def fail(_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    def hook(_module, _given, made):
        made.register_hook(fail)

    def add_twice(*, breaks_off: bool):
        state, eager = start(Compute(torch.device("cpu"), torch.bfloat16), "lora")

        def record(_):  # not of what it is given, which holds no numbers yet
            with state.adapter.unet.mid_block.register_forward_hook(hook):
                return eager.add_gradient(draw_batch(3, 8))

        recorded = RecordedStep(eager, lambda: record, told.append)
        for seed in (1, 2):
            (recorded if breaks_off else eager).add_gradient(draw_batch(seed, 8))
        return {name: gradient.clone() for name, gradient in state.adapter.gradients().items()}

    expected, found = add_twice(breaks_off=False), add_twice(breaks_off=True)
    assert len(told) == 1
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("compute", [BF16, FP16], ids=name_case)
@pytest.mark.parametrize("method", METHODS)
def test_nothing_in_a_step_waits_for_the_gpu(start, compute, method):
    state, eager = start(compute, method)
    take_steps(state, eager, last=1)
    batch = draw_batch(0, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the mode calls itself a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        norm = eager.finish(eager.add_gradient(batch).sum())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert norm.is_cuda  # where it was computed; in fp16 it may well overflow


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("memory", ["keep-all", "recompute-all"])
def test_measured_kernels_ordered_by_place_are_recorded_too(start, memory):
    """Whether all together can be recorded; kernels of attention may add up in any order."""
    found = []
    for _ in range(2):
        state, eager = start(BF16, "dora", memory=memory, attention="auto", channels_last=True)
        found.append(take_steps(state, recorded(eager) if found else eager)[0])
    assert found[1] == pytest.approx(found[0], rel=0.02)


def test_recording_that_fails_is_told_and_remembered(start):
    def refuse(_):
        raise RuntimeError("operation not permitted when stream is capturing")

    state, eager = start(CPU, "lora")
    computer = RecordedStep(eager, lambda: refuse, state.notes.append)
    for _ in range(2):
        computer.add_gradient(draw_batch(1, 8))
    assert "given up" in state.notes[0]
    assert state.given_up == {"cuda_graph"}
