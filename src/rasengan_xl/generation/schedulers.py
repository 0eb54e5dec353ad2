"""Samplers by the names people know, and what A1111 and ComfyUI call them."""

import difflib
import inspect
from dataclasses import dataclass, field
from typing import Any

import diffusers

from rasengan_xl.errors import ModelError, RecipeError

KARRAS = {"use_karras_sigmas": True}


@dataclass(frozen=True, slots=True)
class Sampler:
    """A way from noise to picture, and its names elsewhere."""

    kind: str
    """Class of diffusers."""
    a1111: str
    """Name in A1111."""
    comfyui: str | None
    """Name in ComfyUI's KSampler; None: it has none of this kind."""
    changes: dict[str, Any] = field(default_factory=dict[str, Any])
    """Of the model's own scheduler config."""

    @property
    def is_karras(self) -> bool:
        """Whether noise levels are spaced as in arXiv:2206.00364, eq. 5."""
        return bool(self.changes.get("use_karras_sigmas"))

    @property
    def comfyui_scheduler(self) -> str:
        """What ComfyUI calls the spacing of noise levels."""
        return "karras" if self.is_karras else "normal"

    @property
    def a1111_schedule(self) -> str:
        """What A1111 calls the spacing of noise levels."""
        return "Karras" if self.is_karras else "Uniform"


_DPM = "DPMSolverMultistepScheduler"
_UNCLIPPED = {"clip_sample": False}
"""Latents go beyond -1 and 1, where diffusers would cut them if the model's config is silent."""
_ODE = {"algorithm_type": "dpmsolver++"}
_SDE = {"algorithm_type": "sde-dpmsolver++"}

SAMPLERS: dict[str, Sampler] = {
    "euler": Sampler("EulerDiscreteScheduler", "Euler", "euler"),
    "euler-karras": Sampler("EulerDiscreteScheduler", "Euler", "euler", KARRAS),
    "euler-a": Sampler("EulerAncestralDiscreteScheduler", "Euler a", "euler_ancestral"),
    "dpm++2m": Sampler(_DPM, "DPM++ 2M", "dpmpp_2m", _ODE),
    "dpm++2m-karras": Sampler(_DPM, "DPM++ 2M", "dpmpp_2m", {**_ODE, **KARRAS}),
    "dpm++2m-sde": Sampler(_DPM, "DPM++ 2M SDE", "dpmpp_2m_sde", _SDE),
    "dpm++2m-sde-karras": Sampler(_DPM, "DPM++ 2M SDE", "dpmpp_2m_sde", {**_SDE, **KARRAS}),
    "unipc": Sampler("UniPCMultistepScheduler", "UniPC", "uni_pc_bh2"),
    "heun": Sampler("HeunDiscreteScheduler", "Heun", "heun"),
    "heun-karras": Sampler("HeunDiscreteScheduler", "Heun", "heun", KARRAS),
    "lms": Sampler("LMSDiscreteScheduler", "LMS", "lms"),
    "lms-karras": Sampler("LMSDiscreteScheduler", "LMS", "lms", KARRAS),
    "ddim": Sampler("DDIMScheduler", "DDIM", "ddim", _UNCLIPPED),
    "ddpm": Sampler("DDPMScheduler", "DDPM", "ddpm", _UNCLIPPED),
    "pndm": Sampler("PNDMScheduler", "PLMS", "ipndm", {"skip_prk_steps": True}),
    "lcm": Sampler("LCMScheduler", "LCM", "lcm"),
    "tcd": Sampler("TCDScheduler", "TCD", None),
}


def sampler_name(asked: str) -> str:
    """Return our name of a sampler, which may be spelt as A1111 or ComfyUI does.

    Raises:
        RecipeError: There is none of that name; names the closest.
    """
    known = _spellings()
    plain = _plain(asked)
    if plain in known:
        return known[plain]
    near = difflib.get_close_matches(plain, known, n=1, cutoff=0.4)
    meant = f", did you mean {known[near[0]]!r}?" if near else f"; known: {', '.join(SAMPLERS)}"
    raise RecipeError(f"generate: scheduler = {asked!r}: no such sampler{meant}")


def build_scheduler(own: Any, name: str | None, *, from_pure_noise: bool = False) -> Any:
    """Make a sampler for a model: what the model predicts and how it was noised is kept.

    Args:
        own: The model's scheduler.
        name: Of the sampler; None: the model's own.
        from_pure_noise: Begin there, though the base was not trained to: its adapter was
            (arXiv:2305.08891, section 3.3).

    Raises:
        ModelError: The sampler cannot begin from pure noise.
    """
    if name is None and not from_pure_noise:
        return own
    sampler = SAMPLERS[name] if name is not None else None
    kind: Any = getattr(diffusers, sampler.kind if sampler else own.__class__.__name__)
    changes = dict(sampler.changes) if sampler else {}
    if from_pure_noise or own.config.get("rescale_betas_zero_snr"):
        _check_begins_from_pure_noise(kind, name)
        changes["rescale_betas_zero_snr"] = True
    if from_pure_noise:
        changes["timestep_spacing"] = "trailing"
    return kind.from_config(own.config, **changes)


def check_steps(scheduler: Any, sampler_steps: int) -> None:
    """Refuse a number of steps that a sampler cannot take.

    Raises:
        RecipeError: LCM and its kin cannot take more than they were distilled to.
    """
    try:
        type(scheduler).from_config(scheduler.config).set_timesteps(sampler_steps)
    except (ValueError, IndexError, ZeroDivisionError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RecipeError(
            f"generate: {type(scheduler).__name__} cannot take steps = {sampler_steps} ({reason})"
        ) from error


def recognize_sampler(scheduler: Any) -> Sampler | None:
    """Find what a scheduler of diffusers is called elsewhere; None: it has no name there."""
    kind, config = type(scheduler).__name__, scheduler.config
    for sampler in SAMPLERS.values():
        wanted = {"use_karras_sigmas": False, **sampler.changes}
        if kind == sampler.kind and all(
            bool(config.get(key)) == value if isinstance(value, bool) else config.get(key) == value
            for key, value in wanted.items()
        ):
            return sampler
    return None


def _check_begins_from_pure_noise(kind: Any, name: str | None) -> None:
    if _rescales(kind):
        return
    able = ", ".join(n for n, s in SAMPLERS.items() if _rescales(getattr(diffusers, s.kind)))
    asked = f"scheduler = {name!r}" if name else "the model's own scheduler"
    raise ModelError(
        f"{asked}: {kind.__name__} cannot draw with zero terminal SNR, which this model or "
        f"adapter was trained with; take one of {able}"
    )


def _rescales(kind: Any) -> bool:
    return "rescale_betas_zero_snr" in inspect.signature(kind.__init__).parameters


def _spellings() -> dict[str, str]:
    known: dict[str, str] = {}
    for name, sampler in SAMPLERS.items():
        suffix = "karras" if sampler.is_karras else ""
        for spelling in (name, sampler.a1111 + suffix, (sampler.comfyui or name) + suffix):
            known.setdefault(_plain(spelling), name)
    return known


def _plain(name: str) -> str:
    return "".join(c for c in name.lower().replace("pp", "++") if c.isalnum() or c == "+")
