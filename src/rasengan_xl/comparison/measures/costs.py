"""What training and drawing cost: time, memory, arithmetic, energy."""

from collections.abc import Callable, Iterator

from rasengan_xl.comparison.evidence import Evidence, Subject
from rasengan_xl.comparison.facts import DrawingTime
from rasengan_xl.comparison.measures.sampling import Measured, Timed, Title, over_runs
from rasengan_xl.evaluation.records import Direction
from rasengan_xl.runs.records import SecondsPerStep

_Value = Callable[[Subject], float | None]
_TERA = 1e12


def measure_costs(evidence: Evidence) -> Iterator[Measured]:
    """Measure what each run cost."""
    devices = {s.machine.device_name for s in evidence.subjects if s.machine}
    direction: Direction = "lower" if len(devices) < 2 else "neither"
    for key, label, unit, note, value in _COSTS:
        title = Title(key=key, label=label, unit=unit, note=note, direction=direction, group="cost")
        yield from over_runs(title, evidence, value, _TIMES.get(key))
    yield from _rates(evidence)


def _rates(evidence: Evidence) -> Iterator[Measured]:
    def peak_share(subject: Subject) -> float | None:
        reached = _teraflops(subject)
        if reached is None or evidence.probe is None:
            return None
        return 100 * reached / evidence.probe.teraflops_per_second

    rates: tuple[tuple[str, str, str, str, _Value], ...] = (
        (
            "pictures_per_second",
            "Pictures trained per second",
            "1/s",
            "pictures of a step over its median seconds",
            _pictures_per_second,
        ),
        (
            "model_teraflops",
            "Model arithmetic",
            "TFLOP/s",
            "forward and backward, recomputation and unpacking not counted",
            _teraflops,
        ),
        (
            "peak_share",
            "Share of the device's measured peak",
            "%",
            "model arithmetic over the fastest matrix product of a probe in the same precision",
            peak_share,
        ),
    )
    for key, label, unit, note, value in rates:
        # Seconds per step said over again, or a property of the device: no further verdict.
        title = Title(key=key, label=label, unit=unit, note=note, direction="neither", group="cost")
        yield from over_runs(title, evidence, value)


def _step_times(subject: Subject) -> SecondsPerStep | None:
    return subject.summary.seconds_per_step if subject.summary else None


def _seconds_per_step(subject: Subject) -> float | None:
    times = _step_times(subject)
    return times.median if times else None


def _total_seconds(subject: Subject) -> float | None:
    return subject.summary.seconds if subject.summary else None


def _training_memory(subject: Subject) -> float | None:
    return subject.summary.peak_memory_gib if subject.summary else None


def _reserved_memory(subject: Subject) -> float | None:
    return subject.summary.peak_memory_reserved_gib if subject.summary else None


def _joules(subject: Subject) -> float | None:
    return subject.summary.joules_per_step if subject.summary else None


def _drawing_times(subject: Subject) -> DrawingTime | None:
    return subject.examined.seconds_per_picture if subject.examined else None


def _seconds_per_picture(subject: Subject) -> float | None:
    times = _drawing_times(subject)
    return times.median if times else None


def _drawing_memory(subject: Subject) -> float | None:
    """Return the peak while drawing; a process that drew for many cannot tell it on a CPU."""
    memory = subject.examined.memory if subject.examined else None
    return memory.allocated_gib if memory and memory.kind == "cuda allocated" else None


def _reserved_drawing_memory(subject: Subject) -> float | None:
    memory = subject.examined.memory if subject.examined else None
    return memory.reserved_gib if memory else None


def _pictures_per_second(subject: Subject) -> float | None:
    seconds = _seconds_per_step(subject)
    return subject.pictures_per_step / seconds if seconds else None


def _teraflops(subject: Subject) -> float | None:
    seconds = _seconds_per_step(subject)
    flops = subject.facts.flops_per_step if subject.facts else None
    if seconds is None or flops is None:
        return None
    return flops / seconds / _TERA


_COSTS: tuple[tuple[str, str, str, str, _Value], ...] = (
    ("seconds_per_step", "Seconds per step", "s", "median of each run", _seconds_per_step),
    ("training_seconds", "Training time", "s", "all steps of a run, nothing else", _total_seconds),
    (
        "peak_memory_gib",
        "Peak memory, training",
        "GiB",
        "most allocated on the GPU; on a CPU, most resident memory of the process",
        _training_memory,
    ),
    (
        "peak_memory_reserved_gib",
        "Peak memory reserved, training",
        "GiB",
        "most that the allocator held",
        _reserved_memory,
    ),
    ("joules_per_step", "Energy per step", "J", "of the GPU, by NVML", _joules),
    (
        "seconds_per_picture",
        "Seconds per picture drawn",
        "s",
        "adapter beside the base, not merged into it; median of each run",
        _seconds_per_picture,
    ),
    ("draw_memory_gib", "Peak memory, drawing", "GiB", "most allocated", _drawing_memory),
    (
        "draw_memory_reserved_gib",
        "Peak memory reserved, drawing",
        "GiB",
        "most that the allocator held",
        _reserved_drawing_memory,
    ),
)
_TIMES: dict[str, Callable[[Subject], Timed | None]] = {
    "seconds_per_step": _step_times,
    "seconds_per_picture": _drawing_times,
}
"""Of what times the value of a measure is the median."""
