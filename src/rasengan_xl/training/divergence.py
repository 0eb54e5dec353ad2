"""When a number stops being one, the run stops, and says at which step and on what."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from torch import Tensor

from rasengan_xl.adapters.adapter import Adapter
from rasengan_xl.dataset.stream import ShownPicture, StepPart, TrainingStream
from rasengan_xl.errors import DivergedError
from rasengan_xl.ranks import Ranks

SKIP_WINDOW_STEPS = 100
"""fp16 may overflow now and then while the loss scale settles; skips are counted in a window."""
_NAMED = 3
"""Pictures or layers named in the error's one line; the evidence holds all."""
_REMEDY = "lower training.learning_rate, or use compute.precision = 'bf16' or 'fp32'"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was being computed when a number stopped being one."""

    facts: dict[str, Any]
    """JSON."""
    tensors: dict[str, Tensor]
    """The pictures concerned as the UNet saw them, by slot: `3/latents`, `3/noise` ..."""


class DivergedStepError(DivergedError):
    """A step whose loss or gradient is not finite."""

    def __init__(self, message: str, evidence: Evidence) -> None:
        super().__init__(message)
        self.evidence = evidence


def refuse_infinite_loss(
    loss: float, losses: Tensor, part: StepPart, stream: TrainingStream, ranks: Ranks
) -> None:
    """Stop if the mean loss of a step is not finite.

    Args:
        loss: Over all processes.
        losses: Of each picture of this process.
        part: What this process was shown.
        stream: Where it came from.
        ranks: The processes of the job.

    Raises:
        DivergedError: It is not; every process raises the same.
    """
    if math.isfinite(loss):
        return
    values = cast("list[float]", losses.tolist())
    pairs = zip(_shown(part), values, strict=True)
    own = [{**asdict(p), "loss": str(value)} for p, value in pairs if not math.isfinite(value)]
    facts = {"what": f"the loss is {loss}", "pictures": _flatten(ranks.gather(own))}
    raise _diverged(part.step, facts, stream, ranks)


def refuse_infinite_gradient(
    norm: float, adapter: Adapter, part: StepPart, stream: TrainingStream, ranks: Ranks
) -> None:
    """Stop because the gradient of a step is not finite though its loss is.

    Raises:
        DivergedError: Always; every process raises the same.
    """
    layers = [
        name for name, gradient in adapter.gradients().items() if not gradient.isfinite().all()
    ]
    facts = {
        "what": f"the gradient's norm is {norm} in {_name_some(layers)}",
        "layers": layers,
        "pictures": _flatten(ranks.gather([asdict(picture) for picture in _shown(part)])),
    }
    raise _diverged(part.step, facts, stream, ranks)


def refuse_many_skips(skipped_steps: Sequence[int], step: int, most_skipped_share: float) -> None:
    """Stop if too many of the last steps were void because fp16 overflowed.

    Raises:
        DivergedError: They were.
    """
    recent = sum(skipped > step - SKIP_WINDOW_STEPS for skipped in skipped_steps)
    if recent > most_skipped_share * SKIP_WINDOW_STEPS:
        raise DivergedError(
            f"step {step}: fp16 overflowed in {recent} of the last {SKIP_WINDOW_STEPS} steps "
            f"(training.most_skipped_share = {most_skipped_share}); {_REMEDY}"
        )


def _diverged(
    step: int, facts: dict[str, Any], stream: TrainingStream, ranks: Ranks
) -> DivergedStepError:
    pictures = facts["pictures"]
    named = _name_some([f"{p['name']} (timestep {p['timestep']})" for p in pictures])
    slots = {picture["slot"] for picture in pictures}
    evidence = Evidence({"step": step, **facts}, _read_again(step, slots, stream, ranks))
    return DivergedStepError(f"step {step}: {facts['what']}, on {named}; {_REMEDY}", evidence)


def _read_again(
    step: int, slots: set[int], stream: TrainingStream, ranks: Ranks
) -> dict[str, Tensor]:
    """Read what the UNet saw in some slots of a step, whichever process computed them."""
    seen: dict[str, Tensor] = {}
    for rank in range(ranks.count):
        part = stream.part(step, replace(ranks, rank=rank))
        for batch, shown in zip(part.batches, part.shown, strict=True):
            for row, picture in enumerate(shown):
                if picture.slot in slots:
                    seen |= {f"{picture.slot}/{n}": t[row] for n, t in batch.tensors().items()}
    return seen


def _flatten(lists: list[list[Any]]) -> list[Any]:
    return [item for items in lists for item in items]


def _shown(part: StepPart) -> list[ShownPicture]:
    return [picture for batch in part.shown for picture in batch]


def _name_some(names: Sequence[str]) -> str:
    others = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {others} more" if others > 0 else "")
