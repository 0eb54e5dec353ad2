"""The goals that were set, and what was reached in the same run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import ge, le

from benchmarks.training_step.arms import EAGER, FP16, PEER, REPEATED, REPEATED_EAGER
from benchmarks.training_step.rows import Row

Rows = Mapping[str, Row]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A figure that is to be reached."""

    what: str
    figure: Callable[[Rows], float | None]
    bound: float
    at_least: bool
    unit: str = ""

    def line(self, rows: Rows) -> str:
        """Say in a row of Markdown what was reached."""
        sign = ">=" if self.at_least else "<="
        value = self.figure(rows)
        asked = f"{sign} {self.bound:g}{self.unit}"
        if value is None:
            return f"| {self.what} | {asked} | not measured | |"
        met = (ge if self.at_least else le)(value, self.bound)
        return f"| {self.what} | {asked} | {value:,.2f}{self.unit} | {'met' if met else 'missed'} |"


def rate(name: str) -> Callable[[Rows], float | None]:
    """Return a function that finds an arm's pictures per second."""
    return lambda rows: rows[name].images_per_second if name in rows else None


def step(name: str) -> Callable[[Rows], float | None]:
    """Return a function that finds an arm's milliseconds per step."""

    def find(rows: Rows) -> float | None:
        row = rows.get(name)
        return row.milliseconds.median if row and row.milliseconds else None

    return find


def peak(name: str) -> Callable[[Rows], float | None]:
    """Return a function that finds an arm's peak of allocated memory."""
    return lambda rows: rows[name].peak_allocated_gib if name in rows else None


def launches(name: str) -> Callable[[Rows], float | None]:
    """Return a function that finds how many kernels an arm was seen to launch."""
    return lambda rows: rows[name].kernels if name in rows else None


def operations(name: str) -> Callable[[Rows], float | None]:
    """Return a function that finds how many operations an arm takes by count."""

    def find(rows: Rows) -> float | None:
        row = rows.get(counted(name))
        return row.counts.operations if row and row.counts else None

    return find


def counted(name: str) -> str:
    """Name an arm's row of counts, which may stand beside what was measured of it."""
    return f"{name}, counted"


def ratio(
    above: Callable[[Rows], float | None], below: Callable[[Rows], float | None]
) -> Callable[[Rows], float | None]:
    """Return a function that divides what two others find."""

    def divide(rows: Rows) -> float | None:
        first, second = above(rows), below(rows)
        return first / second if first and second else None

    return divide


LORA_8, LORA_1, SMALL_16 = "ours lora 1024 b8", "ours lora 1024 b1", "ours lora 512 b16"
PEER_8 = "diffusers lora 1024 b8 checkpointing"
NOTEBOOK = "notebooks lora 512 b1 fp16"


def of_peak(rows: Rows) -> float | None:
    """Return the share of the matrix product's rate, in per cent."""
    share = rows[LORA_8].share_of_peak if LORA_8 in rows else None
    return None if share is None else 100 * share


GOALS = (
    Goal(what="LoRA, 1024 px, batch 8, images/s", figure=rate(LORA_8), bound=25, at_least=True),
    Goal(what="the same, of the matmul rate", figure=of_peak, bound=45, at_least=True, unit=" %"),
    Goal(
        what="the same over diffusers with checkpointing",
        figure=ratio(rate(LORA_8), rate(PEER_8)),
        bound=2,
        at_least=True,
        unit="x",
    ),
    Goal(
        what="LoRA, 1024 px, batch 1, over diffusers eager",
        figure=ratio(rate(LORA_1), rate(PEER)),
        bound=3,
        at_least=True,
        unit="x",
    ),
    Goal(what="LoRA, 512 px, batch 16, images/s", figure=rate(SMALL_16), bound=100, at_least=True),
    Goal(
        what="the same over the notebooks' loop at its own settings",
        figure=ratio(rate(SMALL_16), rate(NOTEBOOK)),
        bound=10,
        at_least=True,
        unit="x",
    ),
    Goal(
        what="DoRA step / LoRA step, 1024 px, batch 8",
        figure=ratio(step("ours dora 1024 b8"), step(LORA_8)),
        bound=1.08,
        at_least=False,
    ),
    Goal(
        what="DoRA step / LoRA step, 1024 px, batch 1",
        figure=ratio(step("ours dora 1024 b1"), step(LORA_1)),
        bound=1.08,
        at_least=False,
    ),
    Goal(
        what="QLoRA, 1024 px, batch 1, allocated",
        figure=peak("ours nf4-small 1024 b1 recompute"),
        bound=2.6,
        at_least=False,
        unit=" GiB",
    ),
    Goal(
        what="LoRA, 1024 px, batch 1, nothing recomputed, allocated",
        figure=peak(EAGER),
        bound=9,
        at_least=False,
        unit=" GiB",
    ),
    Goal(
        what="operations, eager LoRA: counted at the dispatcher, views and optimizer left out",
        figure=operations(EAGER),
        bound=5000,
        at_least=False,
    ),
    Goal(
        what="kernels, eager LoRA: launches seen by the profiler, the optimizer's included",
        figure=launches(EAGER),
        bound=5000,
        at_least=False,
    ),
)


def same_losses(rows: Rows) -> float | None:
    """Return 1 if the CUDA graph's losses are the eager ones to the bit, else 0."""
    graph, eager = rows.get(REPEATED), rows.get(REPEATED_EAGER)
    if graph is None or eager is None:
        return None
    are_whole = graph.is_finite and eager.is_finite
    return float(bool(are_whole) and graph.losses == eager.losses)


def skipped(rows: Rows) -> float | None:
    """Return how many steps of fp16 were void."""
    row = rows.get(FP16)
    return None if row is None or row.skipped_steps is None else float(row.skipped_steps)


EXACT = (
    Goal(
        what="losses by CUDA graph those of eager to the bit, attention=efficient (1: yes)",
        figure=same_losses,
        bound=1,
        at_least=True,
    ),
    Goal(what="void steps among 200 in fp16", figure=skipped, bound=20, at_least=False),
)


def render_goals(rows: Sequence[Row]) -> str:
    """Return the goals as Markdown, each with what was reached, and the peer's counts below."""
    by_name = {
        counted(row.arm.name) if row.counts else row.arm.name: row
        for row in rows
        if row.basis != "failed"
    }
    lines = ["| goal | asked | reached | |", "| --- | ---: | ---: | --- |"]
    lines += [goal.line(by_name) for goal in (*GOALS, *EXACT)]
    for what, figure in (("operations", operations(PEER)), ("kernels", launches(PEER))):
        if (value := figure(by_name)) is not None:
            lines.append(f"| {what} as above, {PEER} | | {value:,.0f} | |")
    return "\n".join(lines) + "\n"
