import pytest
import torch
from bitsandbytes.optim import AdamW8bit
from prodigyopt import Prodigy
from schedulefree import AdamWScheduleFree
from torch.optim import AdamW

from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.config.settings import AdapterSettings
from rasengan_xl.dataset.trace import TraceHash
from rasengan_xl.errors import DamagedFileError, OutputError
from rasengan_xl.tensor_file import read_header
from rasengan_xl.training.given_weights import GivenWeights
from rasengan_xl.training.state import TrainingState, read_precision

from ..conftest import build_tiny_unet

OPTIMIZERS = {
    "adamw": lambda parameters: AdamW(parameters, lr=1e-2),
    "adamw8bit": lambda parameters: AdamW8bit(parameters, lr=1e-2),
    "prodigy": lambda parameters: Prodigy(parameters, lr=1.0),
    "schedule_free_adamw": lambda parameters: AdamWScheduleFree(parameters, lr=1e-2),
}


def new_state(optimizer="adamw", seed=0, *, averaged=False, rank=64):
    torch.manual_seed(0)
    adapter = attach_adapter(build_tiny_unet(), AdapterSettings(rank=rank), seed)
    optimizer = OPTIMIZERS[optimizer](list(adapter.parameters.values()))
    return TrainingState(
        adapter=adapter,
        optimizer=optimizer,
        scaler=torch.amp.GradScaler("cpu", enabled=True, init_scale=8.0),
        trace=TraceHash(f"seed {seed}"),
        given=GivenWeights(adapter.trained, optimizer, 0.9 if averaged else None, adapter.settle),
        global_batch=4,
        precision="float32",
    )


def take_step(state):
    state.steps_done += 1
    if hasattr(state.optimizer, "train"):
        state.optimizer.train()
    generator = torch.Generator().manual_seed(state.steps_done)
    for parameter in state.adapter.parameters.values():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    state.optimizer.step()
    state.given.update()
    state.skipped_steps.append(state.steps_done)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_state_that_was_kept_goes_on_bit_for_bit(tmp_path, optimizer):
    whole, resumed = new_state(optimizer, averaged=True), new_state(optimizer, 1, averaged=True)
    for _ in range(3):
        take_step(whole)
    whole.scaler.scale(torch.ones(()))
    whole.scaler.update(16.0)
    whole.save(tmp_path / "state.safetensors")
    resumed.restore(tmp_path / "state.safetensors")
    assert resumed.trace.state == "seed 0"
    assert resumed.steps_done == 3
    assert resumed.skipped_steps == [1, 2, 3]
    assert resumed.scaler.state_dict() == whole.scaler.state_dict()
    for _ in range(3):
        take_step(whole)
        take_step(resumed)
    for name, parameter in whole.adapter.parameters.items():
        assert torch.equal(resumed.adapter.parameters[name], parameter), name
    averages = whole.given.state_dict()
    assert averages
    for name, average in resumed.given.state_dict().items():
        assert torch.equal(average, averages[name]), name
    numbers = [
        {name: value for name, value in group.items() if name != "params"}
        for state in (whole, resumed)
        for group in state.optimizer.state_dict()["param_groups"]
    ]
    assert numbers[0] == numbers[1]


def test_the_header_tells_batch_and_precision(tmp_path):
    new_state().save(tmp_path / "state.safetensors")
    assert read_header(tmp_path / "state.safetensors")["global_batch"] == "4"
    assert read_precision(tmp_path / "state.safetensors") == "float32"


@pytest.mark.parametrize("place", [0.0, 0.001, 0.3, 0.6, 0.999])
def test_one_flipped_bit_is_noticed(tmp_path, place):
    file = tmp_path / "state.safetensors"
    state = new_state(rank=2)
    take_step(state)
    state.save(file)
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 4
    file.write_bytes(content)
    with pytest.raises(DamagedFileError, match="state.safetensors: is not"):
        new_state(rank=2).restore(file)


@pytest.mark.parametrize("kept", [0, 7, 0.1, 0.5, 0.99])
def test_a_file_cut_short_is_noticed(tmp_path, kept):
    file = tmp_path / "state.safetensors"
    new_state(rank=2).save(file)
    content = file.read_bytes()
    file.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(DamagedFileError, match="is not a whole checkpoint"):
        new_state(rank=2).restore(file)


def test_a_state_of_something_else_is_refused_and_nothing_taken_from_it(tmp_path):
    file = tmp_path / "state.safetensors"
    state = new_state(averaged=True)
    take_step(state)
    state.save(file)
    for other, fault in [
        (new_state(averaged=False), r"average\..* is too much"),
        (new_state(averaged=True, rank=2), r"adapter\..*lora_A.* is \(64, .*\), here \(2, "),
        (new_state("prodigy", averaged=True), "group/0/beta3 is missing"),
    ]:
        before = {n: p.detach().clone() for n, p in other.adapter.parameters.items()}
        with pytest.raises(OutputError, match=f"is of another run: {fault}"):
            other.restore(file)
        assert other.steps_done == 0
        assert all(torch.equal(p, before[n]) for n, p in other.adapter.parameters.items())
    plain = new_state()
    plain.save(file)
    with pytest.raises(OutputError, match=r"average\..* is missing"):
        state.restore(file)
