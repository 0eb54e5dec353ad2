"""What computes a step: kernel by kernel, or by recordings of them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rasengan_xl.engine.step_graph import Fallback, Recorder, Replayed
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.objective import LatentBatch, Objective, denoising_losses
from rasengan_xl.training.state import TrainingState
from rasengan_xl.training.step_end import StepEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class EagerStep:
    """Launches every kernel by itself."""

    state: TrainingState
    objective: Objective
    compute: Compute
    pictures_per_step: int
    end: StepEnd

    def add_gradient(self, batch: LatentBatch) -> Float[Tensor, " batch"]:
        """Add a micro-batch's share to the step's gradient; return its pictures' losses."""
        adapter = self.state.adapter
        with adapter.computing(self.compute):
            on_device = batch.to(self.compute.device)
            each = denoising_losses(adapter.unet, on_device, self.objective)
        loss = self.state.scaler.scale(each.sum() / self.pictures_per_step)
        # A thread of its own for the backward pass would have 64 MiB of cuBLAS's workspace.
        with torch.autograd.set_multithreading_enabled(False):
            try:
                loss.backward()
            except BaseException:
                # A recording that failed has computed nothing: its memory holds anything.
                adapter.abandon()
                raise
        adapter.collect()
        return each.detach()

    def finish(self, loss: Tensor) -> Tensor:
        """Take the step, unless it is void; return the gradient's norm, on the device.

        Args:
            loss: Of the step, one number on the device.
        """
        self.end.take_rates()
        return self.end.finish(loss)


class RecordedStep:
    """Launches all kernels of a micro-batch at once, and all of the end.

    To the bit what `EagerStep` computes, since the kernels and their order are the same.
    """

    def __init__(
        self, eager: EagerStep, new_recorder: Callable[[], Recorder], tell: Callable[[str], None]
    ) -> None:
        """Prepare to record.

        Args:
            eager: What is recorded.
            new_recorder: Makes what records, with memory of its own.
            tell: Takes a line for the user where recording is given up.
        """
        self._eager = eager
        device = eager.compute.device
        self._add = Replayed(
            lambda tensors: eager.add_gradient(LatentBatch(**tensors)),
            device,
            new_recorder,
            Fallback(keep=self._keep_gradients, tell=tell, give_up=self._give_up),
        )
        self._end = Replayed(
            lambda tensors: eager.end.finish(tensors["loss"]), device, new_recorder
        )

    def add_gradient(self, batch: LatentBatch) -> Float[Tensor, " batch"]:
        """Add a micro-batch's share to the step's gradient; return its pictures' losses."""
        return self._add(batch.tensors())

    def finish(self, loss: Tensor) -> Tensor:
        """Take the step, unless it is void; return the gradient's norm, on the device."""
        if not self._eager.end.waits_for_nothing:
            return self._eager.finish(loss)
        self._eager.end.take_rates()
        return self._end({"loss": loss})

    def _give_up(self) -> None:
        self._eager.state.given_up.add("cuda_graph")

    def _keep_gradients(self) -> Callable[[], None]:
        adapter = self._eager.state.adapter
        kept = {name: p.grad.clone() for name, p in adapter.trained.items() if p.grad is not None}

        def bring_back() -> None:
            adapter.clear_gradients()
            for name, parameter in adapter.trained.items():
                if parameter.grad is not None:
                    parameter.grad.copy_(kept[name])

        return bring_back


StepComputer = EagerStep | RecordedStep
