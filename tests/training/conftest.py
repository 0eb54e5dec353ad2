import pytest
import torch

from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.dataset.encoded import encode_dataset
from rasengan_xl.dataset.stream import build_stream
from rasengan_xl.dataset.trace import TraceHash
from rasengan_xl.ranks import ALONE
from rasengan_xl.sdxl.components import load_unet
from rasengan_xl.sdxl.compute import choose_compute
from rasengan_xl.sdxl.model_folder import find_model
from rasengan_xl.sdxl.noise_schedule import load_noise_schedule
from rasengan_xl.sdxl.objective import build_objective
from rasengan_xl.training.given_weights import GivenWeights
from rasengan_xl.training.loop import Task
from rasengan_xl.training.optimizer import build_optimizer
from rasengan_xl.training.state import TrainingState

from ..exhaust import exhaust


@pytest.fixture
def make_state_and_task():
    """Build what the loop needs from settings, as a run does."""

    def make(settings, options=None):
        compute = choose_compute(settings.compute)
        model = find_model(settings.base_model)
        schedule = load_noise_schedule(
            model, zero_terminal_snr=settings.objective.zero_terminal_snr
        )
        dataset = exhaust(encode_dataset(settings, model, compute))
        unet = load_unet(model, compute, settings.adapter.base_precision)
        adapter = attach_adapter(unet, settings.adapter, settings.seed, options)
        optimizer = build_optimizer(adapter.trained, settings.training)
        state = TrainingState(
            adapter=adapter,
            optimizer=optimizer,
            given=GivenWeights(
                adapter.trained, optimizer, settings.training.ema_decay, adapter.settle
            ),
            scaler=torch.amp.GradScaler("cpu", enabled=False),
            trace=TraceHash(),
        )
        task = Task(
            stream=build_stream(dataset.train, settings, len(schedule.alpha_bars), ALONE),
            objective=build_objective(schedule, settings.objective),
            compute=compute,
            settings=settings.training,
        )
        return state, task

    return make
