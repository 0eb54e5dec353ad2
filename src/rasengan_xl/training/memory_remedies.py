"""What would save memory, how much of it, and at what price: from counts, nothing is tried.

The factors were measured or computed for SDXL's UNet: recomputing activations saves 92 % of them
for 36 % more arithmetic (docs/experiment-log.md has both beside a real run); activations grow as
the pictures of a forward pass and their area do; NF4 with doubly quantized scales takes 0.516
bytes a weight (arXiv:2305.14314, section 3); AdamW keeps two moments of 4 bytes a trained weight,
its 8-bit form of 1 byte (arXiv:2110.02861).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from rasengan_xl.config.settings import RunSettings

GIB = 2**30
CHECKPOINTING_SAVES = 0.92
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
FULL_BYTES = 4
ADAM_SAVING_BYTES, PAGED_SAVING_BYTES = 6, 2
BYTES_PER_TRAINED_WEIGHT = 16
"""Weight, gradient and two moments, in float32."""
WORTH_NAMING = 0.01
"""Of the memory in use: what saves less is no remedy."""

TRAIN, HELD_OUT, LOAD_UNET = "train", "held-out loss", "load the UNet"
ENCODE_PICTURES, ENCODE_CAPTIONS = "encode pictures", "encode captions"


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightCounts:
    """How many weights there are."""

    unet: int
    linear: int
    """Those of the UNet that NF4 stores in four bits."""
    trained: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What was going on when memory ran out."""

    phase: str
    settings: RunSettings
    counts: WeightCounts
    on_cuda: bool
    bytes_per_weight: int
    """Of the compute precision."""
    used_gib: float
    """Most that was allocated, and what was asked for besides."""
    reserved_unused_gib: float = 0.0
    """Held by PyTorch's allocator in pieces too small."""
    others_gib: float = 0.0
    """Held by other processes on the same GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """One way to need less."""

    action: str
    saves_gib: float
    price: str
    keys: tuple[str, ...] = ()
    """Settings that it changes."""


def cheapest_remedies(situation: Situation, most: int = 3) -> list[Remedy]:
    """List what would save memory, what costs least speed and quality first.

    A remedy that is in use already is not listed, nor one that saves next to nothing.
    """
    least = WORTH_NAMING * situation.used_gib
    found = [r for r in _in_order_of_price(situation) if r.saves_gib >= least]
    return found[:most]


def activations_gib(situation: Situation) -> float:
    """Return what was in use beyond weights, gradients and moments."""
    counts, settings = situation.counts, situation.settings
    base = counts.unet * situation.bytes_per_weight
    if settings.adapter.base_precision == "nf4":
        base -= counts.linear * (situation.bytes_per_weight - NF4_BYTES)
    trained = counts.trained * BYTES_PER_TRAINED_WEIGHT
    if "8bit" in settings.training.optimizer:
        trained -= counts.trained * ADAM_SAVING_BYTES
    return max(0.0, situation.used_gib - (base + trained) / GIB)


def _in_order_of_price(situation: Situation) -> Iterator[Remedy]:
    yield Remedy(
        action="end the other programs on this GPU",
        saves_gib=situation.others_gib,
        price="costs nothing",
    )
    yield Remedy(
        action="set PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True in the environment",
        saves_gib=situation.reserved_unused_gib,
        price="costs nothing",
    )
    if situation.phase == TRAIN:
        yield from _cut_the_batch(situation)
    if situation.phase in {TRAIN, LOAD_UNET, ENCODE_CAPTIONS, HELD_OUT}:
        yield from _halve_the_precision(situation)
    if situation.phase == TRAIN:
        yield from _shrink_the_moments(situation)
        yield from _recompute_activations(situation)
    if situation.phase == HELD_OUT:
        yield from _measure_fewer_timesteps(situation)
    if situation.phase in {TRAIN, LOAD_UNET, HELD_OUT}:
        yield from _quantize_the_base(situation)
    if situation.phase in {TRAIN, HELD_OUT, ENCODE_PICTURES}:
        yield from _shrink_the_pictures(situation)
    if situation.phase == TRAIN:
        yield from _halve_the_rank(situation)


def _cut_the_batch(situation: Situation) -> Iterator[Remedy]:
    training = situation.settings.training
    smaller = [n for n in range(1, training.batch_size) if training.batch_size % n == 0]
    if not smaller:
        return
    size = smaller[-1]
    accumulation = training.accumulation * training.batch_size // size
    yield Remedy(
        action=f"--set training.batch_size={size} --set training.accumulation={accumulation}",
        saves_gib=activations_gib(situation) * (1 - size / training.batch_size),
        price="same result",
        keys=("training.batch_size", "training.accumulation"),
    )


def _halve_the_precision(situation: Situation) -> Iterator[Remedy]:
    if situation.bytes_per_weight < FULL_BYTES:
        return
    halved = situation.counts.unet
    if situation.settings.adapter.base_precision == "nf4":
        halved -= situation.counts.linear
    yield Remedy(
        action=f"--set compute.precision={'auto' if situation.on_cuda else 'bf16'}",
        saves_gib=halved * 2 / GIB + activations_gib(situation) / 2,
        price="faster" if situation.on_cuda else "slower on many CPUs",
        keys=("compute.precision",),
    )


def _shrink_the_moments(situation: Situation) -> Iterator[Remedy]:
    trained = situation.counts.trained
    optimizer = situation.settings.training.optimizer
    if optimizer == "adamw":
        yield Remedy(
            action="--set training.optimizer=adamw8bit",
            saves_gib=trained * ADAM_SAVING_BYTES / GIB,
            price="nearly the same result",
            keys=("training.optimizer",),
        )
    if optimizer == "adamw8bit" and situation.on_cuda:
        yield Remedy(
            action="--set training.optimizer=paged_adamw8bit",
            saves_gib=trained * PAGED_SAVING_BYTES / GIB,
            price="same result, slower",
            keys=("training.optimizer",),
        )


def _recompute_activations(situation: Situation) -> Iterator[Remedy]:
    if situation.settings.engine.memory != "recompute-all":
        yield Remedy(
            action="--set engine.memory=recompute-all",
            saves_gib=activations_gib(situation) * CHECKPOINTING_SAVES,
            price="same result, a third more arithmetic",
            keys=("engine.memory",),
        )


def _measure_fewer_timesteps(situation: Situation) -> Iterator[Remedy]:
    timesteps = situation.settings.evaluation.timesteps
    if timesteps > 1:
        yield Remedy(
            action=f"--set evaluation.timesteps={timesteps // 2}",
            saves_gib=activations_gib(situation) * (1 - timesteps // 2 / timesteps),
            price="a less certain figure",
            keys=("evaluation.timesteps",),
        )


def _quantize_the_base(situation: Situation) -> Iterator[Remedy]:
    if situation.settings.adapter.base_precision == "full":
        yield Remedy(
            action="--set adapter.base_precision=nf4",
            saves_gib=situation.counts.linear * (situation.bytes_per_weight - NF4_BYTES) / GIB,
            price="QLoRA: slower, a coarser base",
            keys=("adapter.base_precision",),
        )


def _shrink_the_pictures(situation: Situation) -> Iterator[Remedy]:
    dataset = situation.settings.dataset
    multiple = dataset.bucket_multiple
    smaller = dataset.resolution * 3 // 4 // multiple * multiple
    if smaller:
        area = (smaller / dataset.resolution) ** 2
        yield Remedy(
            action=f"--set dataset.resolution={smaller}",
            saves_gib=activations_gib(situation) * (1 - area),
            price="less detail",
            keys=("dataset.resolution",),
        )


def _halve_the_rank(situation: Situation) -> Iterator[Remedy]:
    rank = situation.settings.adapter.rank
    if rank > 1:
        yield Remedy(
            action=f"--set adapter.rank={rank // 2}",
            saves_gib=situation.counts.trained * BYTES_PER_TRAINED_WEIGHT / 2 / GIB,
            price="less capacity",
            keys=("adapter.rank",),
        )
