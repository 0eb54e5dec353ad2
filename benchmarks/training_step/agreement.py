"""How far a trainer's loss and gradients are from PEFT's in float32, over the same weights."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.training_step.arms import Arm
from benchmarks.training_step.inputs import CHECKED_SIDE, DTYPES, draw_batch, is_mini, shape_of
from benchmarks.training_step.rows import Agreement
from benchmarks.training_step.script_of_diffusers import build_diffusers
from benchmarks.training_step.trainer import Trainer
from rasengan_xl.engine.weights import is_plain, read_weight
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.objective import LatentBatch

BATCH_SIZE = 2
SCALE = 1024.0
"""Of the loss, so that gradients in fp16 are not lost below its smallest number."""


def compare(arm: Arm, trainer: Trainer, device: torch.device) -> Agreement:
    """Compare a trainer with the reference on small latents, after the steps it has taken."""
    shape = shape_of(arm)
    side = CHECKED_SIDE["mini" if is_mini(arm) else "full"]
    batch = draw_batch(shape, side, BATCH_SIZE, seed=12345).to(device)
    loss, gradients = back_propagate(trainer, batch)
    reference = build_reference(arm, trainer, device)
    with exact_matrix_products():
        true_loss, true_gradients = back_propagate(reference, batch)
    return Agreement(
        loss=abs(loss - true_loss) / true_loss, gradients=distance(gradients, true_gradients)
    )


def back_propagate(trainer: Trainer, batch: LatentBatch) -> tuple[float, dict[str, Tensor]]:
    """Return the loss and all gradients of a batch."""
    trainer.unet.train()
    loss = trainer.losses(batch)
    (SCALE * loss).backward()
    return loss.item(), {n: g.detach().float() / SCALE for n, g in trainer.gradients().items()}


def build_reference(arm: Arm, trainer: Trainer, device: torch.device) -> Trainer:
    """Build PEFT's adapter with the trainer's weights over its base, all in float32."""
    plain = Arm(
        name="reference",
        trainer="diffusers",
        precision=arm.precision,
        resolution=arm.resolution,
        decompose=arm.decompose,
    )
    compute = Compute(device, torch.float32)
    reference = build_diffusers(plain, compute, base_dtype=DTYPES[arm.precision])
    take_quantized_weights(reference.unet, trainer.unet)
    for name, weight in trainer.weights().items():
        reference.weights()[name].copy_(weight.view_as(reference.weights()[name]))
    return reference


def take_quantized_weights(reference: Any, unet: Any) -> None:
    """Copy the weights that a quantized base amounts to; others are the same already."""
    own: dict[str, Any] = {base_name(n): m for n, m in reference.named_modules() if is_base(m)}
    for name, layer in unet.named_modules():
        if is_base(layer) and not is_plain(layer):
            own[base_name(name)].weight.data.copy_(read_weight(layer))


def is_base(module: nn.Module) -> bool:
    """Whether a module holds a weight of the base that may be quantized."""
    return isinstance(module, nn.Linear | nn.Conv2d)


def base_name(name: str) -> str:
    """Return a layer's name without what adapters put around it."""
    return name.removeprefix("base_model.model.").removesuffix(".base_layer")


def distance(gradients: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> float:
    """Return the norm of all differences, relative to that of the reference."""
    assert gradients.keys() == reference.keys(), gradients.keys() ^ reference.keys()
    squares = torch.zeros(2, device=next(iter(reference.values())).device)
    for name, true in reference.items():
        difference = gradients[name].view_as(true) - true
        squares += torch.stack((difference.square().sum(), true.square().sum()))
    return float((squares[0] / squares[1]).sqrt())


class exact_matrix_products:  # noqa: N801 - used as a function
    """Multiply matrices in full float32, not in TF32."""

    def __enter__(self) -> None:
        """Remember what was set."""
        self._before = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    def __exit__(self, *_: object) -> None:
        """Set it again."""
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = self._before
