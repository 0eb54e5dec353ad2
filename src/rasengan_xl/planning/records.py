"""A plan as it is written down: what `rasengan plan --json` prints."""

from rasengan_xl.planning.run_plan import PhasePlan, RunPlan
from rasengan_xl.runs.records import Record


class PhaseRecord(Record):
    """Memory of one phase."""

    allocated_gib: float
    """Most that PyTorch allocates."""
    card_gib: float
    """Most that is taken from the card."""
    parts_gib: dict[str, float]
    """What is allocated at the peak, by what it is for; empty for an estimate."""


class ModeRecord(Record):
    """A training step in one memory mode."""

    memory: str
    allocated_gib: float
    card_gib: float
    seconds_per_step: float | None
    fits: bool


class PlanRecord(Record):
    """A run on a GPU, told beforehand."""

    name: str
    gpu: str
    memory_gib: float
    precision: str
    fits: bool
    engine: dict[str, str | bool]
    """How it would be computed."""
    phases: dict[str, PhaseRecord]
    modes: list[ModeRecord]
    """Memory modes that were tried, up to the first that fits."""
    trained: int
    teraflop_per_step: float
    kernels_per_step: int
    seconds_per_step: float | None
    total_seconds: float | None
    launch_bound: bool
    basis: str


def describe_plan(plan: RunPlan) -> PlanRecord:
    """Write a plan down."""
    known = plan.gpu.speed_is_known
    return PlanRecord(
        name=plan.name,
        gpu=plan.gpu.name,
        memory_gib=plan.gpu.memory_gib,
        precision=plan.precision,
        fits=plan.fits,
        engine=plan.options.facts(),
        phases={
            "encode": _describe(plan.encode),
            "train": _describe(plan.train),
            "draw": _describe(plan.draw),
        },
        modes=[
            ModeRecord(
                memory=mode.memory,
                allocated_gib=mode.train.allocated_gib,
                card_gib=mode.train.card_gib,
                seconds_per_step=mode.seconds_per_step if known else None,
                fits=mode.fits,
            )
            for mode in plan.modes
        ],
        trained=plan.trained,
        teraflop_per_step=plan.teraflop_per_step,
        kernels_per_step=plan.kernels_per_step,
        seconds_per_step=plan.seconds_per_step,
        total_seconds=plan.total_seconds,
        launch_bound=plan.launch_bound,
        basis=plan.basis,
    )


def _describe(phase: PhasePlan) -> PhaseRecord:
    return PhaseRecord(
        allocated_gib=phase.allocated_gib, card_gib=phase.card_gib, parts_gib=phase.parts_gib
    )
