"""How much of the picture is left at each timestep, as the model's own scheduler says."""

import inspect
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from jaxtyping import Float
from torch import Tensor

from rasengan_xl.errors import ModelError
from rasengan_xl.sdxl.components import explaining
from rasengan_xl.sdxl.model_folder import ModelFolder, read_model_index

_PREDICTION_TYPES = {"epsilon", "v_prediction"}


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseSchedule:
    """How much signal is left at each timestep, and what the UNet predicts."""

    alpha_bars: Float[Tensor, " timestep"]
    """Signal's share of the variance, in [0, 1], falling (arXiv:2006.11239, section 2)."""
    prediction_type: str
    """`epsilon` or `v_prediction`."""

    @property
    def snr(self) -> Float[Tensor, " timestep"]:
        """Signal-to-noise ratio: variance of signal over that of noise (arXiv:2303.09556)."""
        return self.alpha_bars / (1 - self.alpha_bars)

    def to(self, device: torch.device) -> "NoiseSchedule":
        """Copy the table to a device."""
        return NoiseSchedule(
            alpha_bars=self.alpha_bars.to(device), prediction_type=self.prediction_type
        )


def load_noise_schedule(model: ModelFolder, *, zero_terminal_snr: bool | None) -> NoiseSchedule:
    """Read the noise schedule that the model was trained with.

    Args:
        model: Where it lies.
        zero_terminal_snr: Leave no signal at the last timestep; None does as the scheduler's
            own `rescale_betas_zero_snr` says.

    Raises:
        ModelError: The schedule is not one of betas, the model predicts something other than
            noise or velocity, or zero terminal SNR does not go with it.
    """
    with explaining(model, "scheduler"):
        kind: Any = getattr(diffusers, read_model_index(model)["scheduler"][1])
        config: dict[str, Any] = dict(kind.load_config(model.path, subfolder="scheduler"))
        is_rescaled = bool(config.pop("rescale_betas_zero_snr", False))
        _refuse_other_noise(model, kind, config)
        scheduler = kind.from_config(config)
    prediction_type = str(scheduler.config.prediction_type)
    if prediction_type not in _PREDICTION_TYPES:
        raise ModelError(
            f"{model.path}: the scheduler's prediction_type is {prediction_type!r}; "
            "only epsilon and v_prediction can be trained"
        )
    alpha_bars: Tensor = scheduler.alphas_cumprod
    if _agrees_to_zero_terminal_snr(model, asked=zero_terminal_snr, has=is_rescaled):
        _refuse_epsilon(model, prediction_type, asked=zero_terminal_snr)
        check_sampler_rescales(kind)
        alpha_bars = rescale_to_zero_terminal_snr(alpha_bars)
    return NoiseSchedule(alpha_bars=alpha_bars, prediction_type=prediction_type)


def rescale_to_zero_terminal_snr(
    alpha_bars: Float[Tensor, " timestep"],
) -> Float[Tensor, " timestep"]:
    """Shift and scale the signal's deviation so that it ends at 0 and begins where it began.

    arXiv:2305.08891, algorithm 1, without its way back to betas.  The last entry is exactly 0;
    diffusers' samplers put 2**-24 there, to divide by it.
    """
    deviations = alpha_bars.double().sqrt()
    first, last = deviations[0], deviations[-1]
    return ((deviations - last) * (first / (first - last))).square().float()


def check_sampler_rescales(kind: Any) -> None:
    """Refuse a sampler that could not draw with zero terminal SNR.

    Raises:
        ModelError: The diffusers class has no option `rescale_betas_zero_snr`.
    """
    if "rescale_betas_zero_snr" not in inspect.signature(kind.__init__).parameters:
        raise ModelError(
            f"objective.zero_terminal_snr = true: the model's {kind.__name__} cannot draw with it; "
            "name another scheduler in model_index.json, such as EulerDiscreteScheduler"
        )


def _refuse_other_noise(model: ModelFolder, kind: Any, config: dict[str, Any]) -> None:
    """Refuse EDM (arXiv:2206.00364; Playground 2.5) and flow matching (arXiv:2210.02747)."""
    has_betas = "beta_schedule" in config or config.get("trained_betas") is not None
    is_other = config.get("timestep_type") == "continuous" or config.get("use_flow_sigmas")
    if is_other or not has_betas:
        raise ModelError(
            f"{model.path}: its {kind.__name__} does not add noise by a schedule of betas, as "
            "SDXL's does (it is EDM or flow matching, perhaps); give a model whose does"
        )


def _agrees_to_zero_terminal_snr(model: ModelFolder, *, asked: bool | None, has: bool) -> bool:
    """Weigh the setting against the scheduler's own word.

    To take zero terminal SNR from a model that has it would train it to unlearn it, while its
    own sampler goes on drawing from pure noise; so that is refused.
    """
    if asked is False and has:
        raise ModelError(
            f"objective.zero_terminal_snr = false: {model.path} was trained with zero terminal SNR "
            "(rescale_betas_zero_snr of its scheduler); leave the key out"
        )
    return has if asked is None else asked


def _refuse_epsilon(model: ModelFolder, prediction_type: str, *, asked: bool | None) -> None:
    """Noise alone tells nothing of the picture: at SNR 0, only velocity is worth predicting."""
    if prediction_type != "epsilon":
        return
    origin, remedy = (
        ("objective.zero_terminal_snr = true", "leave the key out")
        if asked
        else ("rescale_betas_zero_snr = true in the scheduler", "make it false there")
    )
    raise ModelError(
        f"{origin}: {model.path} predicts epsilon, which at zero SNR tells nothing of the picture; "
        f"{remedy}, or give a v_prediction model"
    )
