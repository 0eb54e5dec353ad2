"""Which settings a run may be continued with, other than those it was begun with."""

from typing import Any

from rasengan_xl.config.comparison import differences
from rasengan_xl.config.settings import RunSettings

HARMLESS = (
    "training.save_every",
    "training.keep_checkpoints",
    "engine.memory",  # the same gradients, some computed twice
    "evaluation.pictures",
    "evaluation.timesteps",
    "evaluation.checkpoint_pictures",
    "compute.device",
    "dataset.streaming",
    "adapter.start_from",  # what it held is told by adapter.start_digest
)
"""What changes neither what a run is shown nor what it makes of it."""

START = "adapter.start_digest"

CUT_OF_A_STEP = ("training.batch_size", "training.accumulation")
"""How a step's pictures are cut into forward passes: harmless while there are as many."""

BATCH_HEADER = "global_batch"
"""Where a checkpoint's header says how many pictures a step is over."""


def global_batch(settings: RunSettings, processes: int) -> int:
    """Return how many pictures all processes together see in one optimizer step."""
    return settings.training.batch_size * settings.training.accumulation * processes


def explain_changes(
    begun: RunSettings, now: RunSettings, begun_batch: int, processes: int
) -> str | None:
    """Name every change that forbids to continue a run, old value and new; None: there is none.

    Args:
        begun: What the run was begun with.
        now: What it is to be continued with.
        begun_batch: Pictures per optimizer step it was begun with.
        processes: How many it is to be continued on.
    """
    values = differences({"begun": begun, "now": now})
    old, new = values["begun"], values["now"]
    batch = global_batch(now, processes)
    # Each process drops inputs of the adapter by its own draw, in the order of its forward passes.
    may_cut = batch == begun_batch and now.adapter.dropout == 0
    allowed = {*HARMLESS, *(CUT_OF_A_STEP if may_cut else ())}
    if START in old:
        return _explain_start(old[START], new[START])
    changes = [f"{k} was {_show(old[k])}, is {_show(new[k])}" for k in old if k not in allowed]
    if batch != begun_batch and not set(CUT_OF_A_STEP) & set(old):
        changes.append(
            f"a step was over {begun_batch} pictures, is over {batch} (batch_size "
            f"{now.training.batch_size} x accumulation {now.training.accumulation} x "
            f"{processes} processes)"
        )
    return "; ".join(changes) or None


def _explain_start(begun: str | None, now: str | None) -> str:
    """Name the change of the adapter that a run starts from, which decides the shape as well."""
    was, is_now = (f"{each[:12]}..." if each else "none" for each in (begun, now))
    return f"the adapter to start from (SHA-256) was {was}, is {is_now}"


def _show(value: Any) -> str:
    return "unset" if value is None else repr(value)
