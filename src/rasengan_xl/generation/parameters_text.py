"""A picture's settings as A1111 writes and reads them: the PNG text chunk `parameters`."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rasengan_xl.generation.emphasis import read_emphasis, write_emphasis
from rasengan_xl.generation.schedulers import Sampler


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedAdapter:
    """An adapter that a picture was drawn with."""

    name: str
    """As other programs would name its file, without the ending."""
    file: str
    strength: float
    a1111_hash: str | None = None
    """First half-dozen bytes of the SHA-256 of its tensors, in hex, by which A1111 knows files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFacts:
    """How one picture was drawn."""

    prompt: str
    negative_prompt: str | None
    seed: int
    width: int
    height: int
    sampler_steps: int
    guidance: float
    guidance_rescale: float
    scheduler: str
    """Our name of the sampler, or the class of the model's own."""
    sampler: Sampler | None
    """Its names elsewhere, where it has any."""
    base_model: str
    adapters: tuple[UsedAdapter, ...] = ()
    denoise: float | None = None
    """Share of the noise that was put on a given picture; None: drawn from noise alone."""
    from_picture: str | None = None


def write_parameters(facts: PictureFacts) -> str:
    """Write the settings as A1111 does; its reader takes the last line apart at commas."""
    loras = "".join(f" <lora:{a.name}:{a.strength:g}>" for a in facts.adapters)
    lines = [f"{_text(facts.prompt)}{loras}"]
    if facts.negative_prompt:
        lines.append(f"Negative prompt: {_text(facts.negative_prompt)}")
    lines.append(", ".join(f"{key}: {_quoted(value)}" for key, value in _list(facts).items()))
    return "\n".join(lines)


def model_name(base_model: str) -> str:
    """Name a base model as other programs would its file, without the ending."""
    return re.split(r"[/\\]", base_model.rstrip("/\\"))[-1]


def _text(prompt: str) -> str:
    """Write a prompt in A1111's own spelling, in which brackets would weaken what they hold."""
    return re.sub(r"([\[\]])", r"\\\1", write_emphasis(read_emphasis(prompt)))


def _list(facts: PictureFacts) -> dict[str, str]:
    sampler = facts.sampler
    listed = {
        "Steps": str(facts.sampler_steps),
        "Sampler": sampler.a1111 if sampler else facts.scheduler,
        "Schedule type": sampler.a1111_schedule if sampler else "Uniform",
        "CFG scale": f"{facts.guidance:g}",
        "Seed": str(facts.seed),
        "Size": f"{facts.width}x{facts.height}",
        "Model": model_name(facts.base_model),
    }
    if facts.denoise is not None:
        listed["Denoising strength"] = f"{facts.denoise:g}"
    if facts.guidance_rescale:
        listed["CFG Rescale"] = f"{facts.guidance_rescale:g}"
    if hashes := _write_hashes(facts.adapters):
        listed["Lora hashes"] = hashes
    return listed


def _write_hashes(adapters: Sequence[UsedAdapter]) -> str:
    return ", ".join(f"{a.name}: {a.a1111_hash}" for a in adapters if a.a1111_hash)


def _quoted(value: str) -> str:
    """Quote what would end a value early, as A1111 does."""
    return json.dumps(value, ensure_ascii=False) if set(value) & set(',:"\n') else value
