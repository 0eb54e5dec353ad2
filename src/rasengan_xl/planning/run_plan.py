"""What a run would take on a GPU: memory by phase, time, and which memory mode it would choose."""

from dataclasses import dataclass, field

from rasengan_xl.config.settings import RunSettings
from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.planning.drawing_needs import ModelSize, needs_of
from rasengan_xl.planning.gpus import GIB, GPU
from rasengan_xl.planning.memory_modes import (
    ModeNeeds,
    candidate_modes,
    planned_dtype,
    room_gib,
    taken_gib,
)
from rasengan_xl.planning.model_shape import CUDA, ModelShape
from rasengan_xl.planning.phases import simulate_encoding
from rasengan_xl.planning.prediction import Experience, gather_experience, tell_time
from rasengan_xl.planning.roofline import predict_seconds
from rasengan_xl.planning.simulate import Needs, StepNeeds
from rasengan_xl.sdxl.compute import Compute

MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class PhasePlan:
    """The memory of one phase."""

    allocated_gib: float
    """Most that PyTorch allocates."""
    card_gib: float
    """Most that is taken from the card: PyTorch's segments, CUDA's context, libraries."""
    parts_gib: dict[str, float] = field(default_factory=dict[str, float])
    """What is allocated at the peak, by what it is for; the largest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModePlan:
    """A step in one memory mode."""

    memory: str
    train: PhasePlan
    seconds_per_step: float
    fits: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """A run on a GPU, told beforehand."""

    name: str
    gpu: GPU
    settings: RunSettings
    options: EngineOptions
    """How it would be computed; if nothing fits, in the leanest mode."""
    precision: str
    encode: PhasePlan
    train: PhasePlan
    draw: PhasePlan
    modes: tuple[ModePlan, ...]
    """Those that were tried, up to the first that fits."""
    teraflop_per_step: float
    kernels_per_step: int
    trained: int
    seconds_per_step: float | None
    """None where the GPU's speed is not known."""
    total_seconds: float | None
    """All steps and the measurements of held-out loss; encoding and drawing come on top."""
    basis: str
    """What the seconds rest on."""
    launch_bound: bool

    @property
    def fits(self) -> bool:
        """Whether every phase fits."""
        room = room_gib(self.gpu)
        return all(phase.card_gib <= room for phase in (self.encode, self.train, self.draw))


@dataclass(slots=True, kw_only=True)
class Planner:
    """Plans runs, and does no part of the work twice."""

    shape: ModelShape
    _encodings: dict[tuple[object, ...], Needs] = field(
        default_factory=dict[tuple[object, ...], Needs]
    )
    _steps: dict[str, list[ModeNeeds]] = field(default_factory=dict[str, list[ModeNeeds]])
    _experiences: dict[str, Experience] = field(default_factory=dict[str, Experience])
    _size: ModelSize | None = None

    def plan(self, name: str, settings: RunSettings, gpu: GPU) -> RunPlan:
        """Plan one run.

        Args:
            name: What it is called.
            settings: Everything it depends on.
            gpu: Where it is to run.

        Raises:
            RasenganError: What was asked for cannot be had.
        """
        tried = self._try_modes(settings, gpu)
        modes = tuple(_plan_mode(mode, gpu) for mode in tried)
        chosen = tried[-1]
        needs = chosen.needs
        experience = self._experience(gpu)
        time = tell_time(settings, chosen, gpu, experience)
        is_known = gpu.speed_is_known or experience.runs > 0
        seconds = time.seconds if is_known else None
        return RunPlan(
            name=name,
            gpu=gpu,
            settings=settings,
            options=chosen.options,
            precision=str(planned_dtype(settings, gpu)).removeprefix("torch."),
            encode=_plan_phase(self._encode(settings, gpu), gpu),
            train=modes[-1].train,
            draw=self._draw(settings, gpu),
            modes=modes,
            teraflop_per_step=needs.work.flops / 1e12,
            kernels_per_step=needs.work.kernels,
            trained=needs.trained,
            seconds_per_step=seconds,
            total_seconds=None if seconds is None else _total(settings, needs, gpu, seconds),
            basis=time.basis,
            launch_bound=time.launch_bound,
        )

    def _try_modes(self, settings: RunSettings, gpu: GPU) -> list[ModeNeeds]:
        """Simulate modes, fastest first, until one fits; reuse those known of other GPUs."""
        dtype = planned_dtype(settings, gpu)
        key = settings.model_copy(update={"seed": 0}).model_dump_json() + str(dtype)
        known = self._steps.setdefault(key, [])
        for index, mode in enumerate(known):
            if mode.card_gib(gpu) <= room_gib(gpu):
                return known[: index + 1]
        for mode in candidate_modes(settings, self.shape, gpu, skip=len(known)):
            known.append(mode)
            if mode.card_gib(gpu) <= room_gib(gpu):
                break
        return list(known)

    def _experience(self, gpu: GPU) -> Experience:
        if gpu.name not in self._experiences:
            self._experiences[gpu.name] = gather_experience(gpu)
        return self._experiences[gpu.name]

    def _encode(self, settings: RunSettings, gpu: GPU) -> Needs:
        dtype, side = planned_dtype(settings, gpu), settings.dataset.resolution
        key = (side, dtype.itemsize)
        if key not in self._encodings:
            self._encodings[key] = simulate_encoding(self.shape, side, dtype)
        return self._encodings[key]

    def _draw(self, settings: RunSettings, gpu: GPU) -> PhasePlan:
        """Estimate drawing at the size that was trained at, on the first rung that fits."""
        if self._size is None:
            self._size = self.shape.count_weights()
        compute = Compute(CUDA, planned_dtype(settings, gpu))
        rungs = needs_of(self._size, compute, settings.dataset.resolution**2)
        fitting = (gib for gib in rungs.values() if gib <= room_gib(gpu))
        gib = next(fitting, min(rungs.values()))
        return PhasePlan(allocated_gib=gib - gpu.context_gib, card_gib=gib)


def _plan_mode(mode: ModeNeeds, gpu: GPU) -> ModePlan:
    train = _plan_phase(mode.needs, gpu)
    return ModePlan(
        memory=mode.options.memory,
        train=train,
        seconds_per_step=predict_seconds(
            mode.needs.work, gpu, graph=mode.options.cuda_graph
        ).seconds,
        fits=train.card_gib <= room_gib(gpu),
    )


def _plan_phase(needs: Needs, gpu: GPU) -> PhasePlan:
    parts = {kind: size / GIB for kind, size in needs.peak.kinds.items()}
    parts["workspace"] = parts.get("workspace", 0.0) + gpu.workspace_mib * MIB / GIB
    return PhasePlan(
        allocated_gib=needs.peak.total / GIB + gpu.workspace_mib * MIB / GIB,
        card_gib=taken_gib(needs.reserved, gpu),
        parts_gib=dict(sorted(parts.items(), key=lambda part: -part[1])),
    )


def _total(settings: RunSettings, needs: StepNeeds, gpu: GPU, seconds: float) -> float:
    """Add the measurements of held-out loss: of base and adapter at the end, and on the way."""
    training, evaluation = settings.training, settings.evaluation
    on_the_way = training.steps // training.save_every * evaluation.checkpoint_pictures
    entries = (2 * evaluation.pictures + on_the_way) * evaluation.timesteps
    forward = predict_seconds(needs.forward, gpu, graph=False).seconds
    return training.steps * seconds + entries / training.batch_size * forward
