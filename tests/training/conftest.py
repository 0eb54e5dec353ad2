import pytest
import torch

from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.dataset.encoded import encode_dataset
from rasengan_xl.dataset.stream import TrainingStream
from rasengan_xl.dataset.trace import TraceHash
from rasengan_xl.sdxl.components import load_noise_schedule, load_unet
from rasengan_xl.sdxl.compute import choose_compute
from rasengan_xl.sdxl.model_folder import find_model
from rasengan_xl.training.loop import Task
from rasengan_xl.training.optimizer import build_optimizer
from rasengan_xl.training.state import TrainingState


def exhaust(generator):
    """Run a generator to its end and return what it returns."""
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value


@pytest.fixture
def make_state_and_task():
    """Build what the loop needs from settings, as a run does."""

    def make(settings):
        compute = choose_compute(settings.compute)
        model = find_model(settings.base_model)
        schedule = load_noise_schedule(model)
        dataset = exhaust(encode_dataset(settings, model, compute))
        unet = load_unet(model, compute, settings.adapter.base_precision)
        adapter = attach_adapter(unet, settings.adapter, settings.seed)
        state = TrainingState(
            adapter=adapter,
            optimizer=build_optimizer(adapter.parameters.values(), settings.training),
            scaler=torch.amp.GradScaler("cpu", enabled=False),
            trace=TraceHash(),
        )
        stream = TrainingStream(
            pictures=dataset.train,
            settings=settings.training,
            seed=settings.seed,
            timesteps=len(schedule.alpha_bars),
        )
        task = Task(stream=stream, schedule=schedule, compute=compute, settings=settings.training)
        return state, task

    return make
