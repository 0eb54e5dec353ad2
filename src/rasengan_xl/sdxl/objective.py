"""The loss SDXL was trained with, so that fine-tuning continues the same task."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import huber_loss

from rasengan_xl.config.training_settings import ObjectiveSettings
from rasengan_xl.sdxl.noise_schedule import NoiseSchedule


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentBatch:
    """Encoded pictures and captions, and the noise they are drowned in."""

    latents: Float[Tensor, "batch channel height width"]
    """Scaled VAE latents."""
    noise: Float[Tensor, "batch channel height width"]
    timesteps: Int[Tensor, " batch"]
    prompts: Float[Tensor, "batch token text_width"]
    pooled_prompts: Float[Tensor, "batch pooled_width"]
    size_numbers: Int[Tensor, "batch 6"]
    """Original height and width, crop top and left, target height and width, in pixels.
    Integers until the UNet embeds them: bfloat16 would round 1023 to 1024."""
    key_values: Float[Tensor, "batch token key_value"] | None = None
    """The base's keys and values of the captions, if they were kept: `dataset/key_values.py`."""

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor that there is by name."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def to(self, device: torch.device) -> "LatentBatch":
        """Copy every tensor to a device; pinned ones while the host goes on."""
        return LatentBatch(
            **{name: t.to(device, non_blocking=True) for name, t in self.tensors().items()}
        )

    def part(self, start: int, end: int) -> "LatentBatch":
        """Return some rows."""
        return LatentBatch(**{name: t[start:end] for name, t in self.tensors().items()})

    def pinned(self) -> "LatentBatch":
        """Copy every tensor to where a GPU fetches it by itself."""
        return LatentBatch(**{name: t.pin_memory() for name, t in self.tensors().items()})


def join_batches(batches: Sequence[LatentBatch]) -> LatentBatch:
    """Put batches of one size together, in order."""
    names = batches[0].tensors()
    return LatentBatch(**{n: torch.cat([batch.tensors()[n] for batch in batches]) for n in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What is minimised: how an error of prediction becomes a loss."""

    schedule: NoiseSchedule
    weights: Float[Tensor, " timestep"]
    """What each timestep's loss is multiplied by."""
    huber_delta: float | None = None
    """Error at which Huber's loss turns linear; None for the squared error."""

    def to(self, device: torch.device) -> "Objective":
        """Copy the tables to a device, so that no step waits for them."""
        return replace(self, schedule=self.schedule.to(device), weights=self.weights.to(device))


def build_objective(schedule: NoiseSchedule, settings: ObjectiveSettings) -> Objective:
    """Build the objective that a run is trained with."""
    objective = plain_objective(schedule)
    if settings.min_snr_gamma is not None:
        objective = replace(objective, weights=min_snr_weights(schedule, settings.min_snr_gamma))
    if settings.loss == "huber":
        objective = replace(objective, huber_delta=settings.huber_delta)
    return objective


def plain_objective(schedule: NoiseSchedule) -> Objective:
    """Return the unweighted squared error, by which runs of any objective can be compared."""
    return Objective(schedule=schedule, weights=torch.ones_like(schedule.alpha_bars))


def min_snr_weights(schedule: NoiseSchedule, gamma: float) -> Float[Tensor, " timestep"]:
    """Return the weights that make min(SNR, gamma) the weight of an error of the picture.

    An error of the noise counts min(SNR, gamma) / SNR, one of the velocity
    min(SNR, gamma) / (SNR + 1) (arXiv:2303.09556, section 3.4).  The former is written so that
    it is 1, its limit, where the SNR is 0; the latter is 0 there.
    """
    if schedule.prediction_type == "epsilon":
        return (gamma / schedule.snr).clamp(max=1)
    return schedule.snr.clamp(max=gamma) / (schedule.snr + 1)


def denoising_losses(
    unet: UNet2DConditionModel, batch: LatentBatch, objective: Objective
) -> Float[Tensor, " batch"]:
    """Return each picture's weighted mean loss of prediction, in float32.

    The target is the noise (L_simple, arXiv:2006.11239, eq. 14) or the velocity
    (arXiv:2202.00512, appendix D), whichever the model was trained to predict.
    """
    schedule = objective.schedule.to(batch.latents.device)
    alpha_bars = schedule.alpha_bars[batch.timesteps].view(-1, 1, 1, 1)
    signal, spread = alpha_bars.sqrt(), (1 - alpha_bars).sqrt()
    noised = signal * batch.latents + spread * batch.noise  # arXiv:2006.11239, eq. 4
    if schedule.prediction_type == "epsilon":
        target = batch.noise
    else:
        target = signal * batch.noise - spread * batch.latents
    kept = {} if batch.key_values is None else {"key_values": batch.key_values}
    predicted = unet(
        noised.to(unet.dtype),
        batch.timesteps,
        batch.prompts.to(unet.dtype),
        added_cond_kwargs={
            "text_embeds": batch.pooled_prompts.to(unet.dtype),
            "time_ids": batch.size_numbers,
        },
        **kept,
    ).sample
    losses = _losses_of_values(predicted.float(), target, objective.huber_delta)
    weights = objective.weights.to(batch.latents.device)[batch.timesteps]
    return weights * losses.mean(dim=(1, 2, 3))


def _losses_of_values(
    predicted: Float[Tensor, "*shape"], target: Float[Tensor, "*shape"], delta: float | None
) -> Float[Tensor, "*shape"]:
    """Return e^2, or twice Huber's function: e^2 up to delta, delta (2|e| - delta) beyond.

    Peter Huber (doi:10.1214/aoms/1177703732) halves both; so the two losses agree on small
    errors, and learning rates carry over.
    """
    if delta is None:
        return (predicted - target).square()
    return 2 * huber_loss(predicted, target, reduction="none", delta=delta)
