"""One measurement of one arm, written out with all that belongs to it."""

from dataclasses import dataclass

from rasengan_xl.comparison.result import ArmResult
from rasengan_xl.report.numbers import (
    write_bytes,
    write_compact,
    write_count,
    write_counted,
    write_error,
    write_gib,
    write_loss,
    write_n,
    write_seconds,
    write_seconds_range,
    write_share,
    write_with_error,
)

ARROW = "\N{RIGHTWARDS ARROW}"
TRACE_LETTERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What one arm has to say in one row."""

    value: str
    detail: str = ""
    """Spread, n and what else belongs to the value."""
    exact: str = ""
    """The figure before rounding."""
    code: bool = False
    """Whether the value is for machines, not for reading."""
    size: float | None = None
    """The value as a length, in rows that compare costs."""


def measure_parameters(arm: ArmResult) -> Figure | None:
    """Return how many parameters were trained, and of how many."""
    trainable, total = arm.trainable_parameters, arm.total_parameters
    if trainable is None:
        return None
    detail = f"{write_share(trainable / total)} of {write_compact(total)}" if total else ""
    exact = f"{write_count(trainable)} of {write_count(total)}" if total else write_count(trainable)
    return Figure(value=write_compact(trainable), detail=detail, exact=exact, size=trainable)


def measure_adapter(arm: ArmResult) -> Figure | None:
    """Return the size of the adapter's file."""
    if arm.adapter_bytes is None:
        return None
    exact = f"{write_count(arm.adapter_bytes)} bytes"
    return Figure(value=write_bytes(arm.adapter_bytes), exact=exact, size=arm.adapter_bytes)


def measure_memory(arm: ArmResult) -> Figure | None:
    """Return the most memory that training took."""
    if arm.peak_memory_gib is None:
        return None
    reserved = arm.peak_memory_reserved_gib
    detail = f"{write_gib(reserved)} reserved" if reserved is not None else ""
    return Figure(value=write_gib(arm.peak_memory_gib), detail=detail, size=arm.peak_memory_gib)


def measure_seconds(arm: ArmResult) -> Figure | None:
    """Return the median of the seconds per step, its quartiles and n."""
    seconds = arm.seconds_per_step
    if seconds is None:
        return None
    detail = f"{write_seconds_range(seconds.p25, seconds.p75)}, {write_n(seconds.n)}"
    return Figure(value=write_seconds(seconds.median), detail=detail, size=seconds.median)


def measure_idleness(arm: ArmResult) -> Figure | None:
    """Return the share of the steps' time that went by waiting for pictures."""
    idle = arm.loader_idle_share
    if idle is None:
        return None
    detail = f"at most {write_share(idle.largest)} of a step, {write_n(idle.n)}"
    return Figure(value=write_share(idle.mean), detail=detail, exact=f"{idle.mean}")


def measure_training_loss(arm: ArmResult) -> Figure | None:
    """Return the mean loss of the last steps, of how many, and how many steps were void."""
    if arm.training_loss is None:
        return None
    steps = arm.training_loss_steps
    detail = write_n(steps) if steps is not None else "n unknown"
    if arm.skipped_steps:
        detail += f"; fp16 overflow made {write_counted(arm.skipped_steps, 'step')} void"
    return Figure(value=write_loss(arm.training_loss), detail=detail)


def measure_held_out_loss(arm: ArmResult) -> Figure | None:
    """Return the held-out loss of base and adapted, each with its standard error."""
    loss = arm.held_out_loss
    if loss is None:
        return None
    spread = f"{write_error(loss.base_standard_error)} {ARROW} " + write_error(
        loss.adapted_standard_error
    )
    return Figure(
        value=f"{write_loss(loss.base)} {ARROW} {write_loss(loss.adapted)}",
        detail=f"{spread}, {write_n(loss.n)}",
    )


def measure_change(arm: ArmResult) -> Figure | None:
    """Return the paired change of the held-out loss with its standard error."""
    loss = arm.held_out_loss
    if loss is None:
        return None
    return Figure(
        value=write_with_error(loss.difference, loss.difference_standard_error),
        detail=write_n(loss.n),
    )


def name_best(arm: ArmResult) -> Figure | None:
    """Return at which checkpoint the held-out loss was lowest, and how low."""
    best = arm.best
    if best is None:
        return None
    detail = f"held-out loss {write_loss(best.loss)}, {write_n(best.n)}"
    return Figure(value=f"step {write_count(best.step)}", detail=detail)


def name_trace(arm: ArmResult) -> Figure | None:
    """Return the first letters of the hash over what the arm saw."""
    if arm.trace_hash is None:
        return None
    return Figure(value=arm.trace_hash[:TRACE_LETTERS], exact=arm.trace_hash, code=True)
