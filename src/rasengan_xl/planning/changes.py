"""What could be changed to need less memory: what costs least time and quality first."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from rasengan_xl.config.base_precisions import BasePrecision
from rasengan_xl.config.engine_settings import MemoryMode
from rasengan_xl.config.settings import RunSettings

TRAIN, HELD_OUT, LOAD_UNET = "train", "held-out loss", "load the UNet"
ENCODE_PICTURES, ENCODE_CAPTIONS = "encode pictures", "encode captions"

LEAST_RESOLUTION = 32
"""In pixels; `dataset.resolution` takes no less."""
_LEANER: dict[MemoryMode, tuple[tuple[MemoryMode, str], ...]] = {
    "keep-all": (
        ("recompute-feed-forward", "same result, an eighth more arithmetic"),
        ("recompute-all", "same result, a third more arithmetic"),
    ),
    "recompute-feed-forward": (("recompute-all", "same result, a third more arithmetic"),),
    "recompute-all": (),
}
_COARSER: dict[BasePrecision, tuple[tuple[BasePrecision, str], ...]] = {
    "full": (
        ("int8", "a base with about 1 % error"),
        ("nf4", "QLoRA: slower, a coarser base"),
        ("nf4-small", "QLoRA: slower, a coarser base, convolutions too"),
    ),
    "int8": (
        ("nf4", "QLoRA: slower, a coarser base"),
        ("nf4-small", "QLoRA: slower, a coarser base, convolutions too"),
    ),
    "nf4": (("nf4-small", "convolutions in 8 bits, too"),),
    "nf4-small": (),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of a run's settings."""

    values: dict[str, Any] = field(default_factory=dict[str, Any])
    """New values, by dotted key."""
    price: str

    @property
    def action(self) -> str:
        """Say how it is made on the command line."""
        return " ".join(f"--set {key}={_write(value)}" for key, value in self.values.items())

    def applied(self, settings: RunSettings) -> RunSettings:
        """Return settings with the change."""
        for key, value in self.values.items():
            table, _, name = key.partition(".")
            changed = getattr(settings, table).model_copy(update={name: value})
            settings = settings.model_copy(update={table: changed})
        return settings


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionDisk:
    """What keeping captions' keys and values would take of the disk, and what there is."""

    bytes_each: int
    free_bytes: int
    captions: int | None
    """How many they are, if it is known."""

    @property
    def has_room(self) -> bool:
        """Whether it would hold them, as far as is known."""
        return (self.captions or 1) * self.bytes_each < self.free_bytes

    @property
    def price(self) -> str:
        """Say what it costs."""
        if self.captions is not None:
            return f"same result, {self.captions * self.bytes_each / 1e9:,.1f} GB of disk"
        room = self.free_bytes // self.bytes_each
        each = f"{self.bytes_each / 1e6:,.1f} MB of disk a caption"
        return f"same result, {each}: there is room for {room:,}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """A run, as far as what it could change depends on it."""

    settings: RunSettings
    memory: MemoryMode
    """The memory mode in use."""
    on_cuda: bool
    dtype: torch.dtype
    """Compute precision."""
    disk: CaptionDisk | None = None
    """None: keys and values of captions cannot be kept."""


def list_changes(situation: Situation, phase: str) -> Iterator[Change]:
    """List what would need less memory in a phase; what is so already is left out."""
    for changes in _BY_PHASE.get(phase, ()):
        yield from changes(situation)


def _remember_less(situation: Situation) -> Iterator[Change]:
    engine = situation.settings.engine
    is_alone = engine.implementation == "peft" or not engine.lean_feed_forward
    for mode, price in _LEANER[situation.memory]:
        if not (is_alone and mode == "recompute-feed-forward"):
            yield Change(values={"engine.memory": mode}, price=price)


def _cut_the_batch(situation: Situation) -> Iterator[Change]:
    training = situation.settings.training
    smaller = [n for n in range(1, training.batch_size) if training.batch_size % n == 0]
    if smaller:
        pictures = training.batch_size * training.accumulation
        yield Change(
            values={
                "training.batch_size": smaller[-1],
                "training.accumulation": pictures // smaller[-1],
            },
            price="same result",
        )


def _keep_text_on_disk(situation: Situation) -> Iterator[Change]:
    disk = situation.disk
    if disk is not None and disk.has_room:
        yield Change(values={"engine.cache_text_kv": True}, price=disk.price)


def _halve_the_precision(situation: Situation) -> Iterator[Change]:
    if situation.dtype is torch.float32:
        yield Change(
            values={"compute.precision": "auto" if situation.on_cuda else "bf16"},
            price="faster" if situation.on_cuda else "slower on many CPUs",
        )


def _shrink_the_moments(situation: Situation) -> Iterator[Change]:
    optimizer = situation.settings.training.optimizer
    if optimizer == "adamw":
        yield Change(values={"training.optimizer": "adamw8bit"}, price="nearly the same result")
    if optimizer == "adamw8bit" and situation.on_cuda:
        yield Change(values={"training.optimizer": "paged_adamw8bit"}, price="same result, slower")


def _store_the_base_smaller(situation: Situation) -> Iterator[Change]:
    settings = situation.settings
    plainly = {"engine.int8_compute": "off"} if settings.engine.int8_compute == "on" else {}
    for precision, price in _COARSER[settings.adapter.base_precision]:
        yield Change(values={"adapter.base_precision": precision, **plainly}, price=price)


def _shrink_the_pictures(situation: Situation) -> Iterator[Change]:
    dataset = situation.settings.dataset
    multiple = dataset.bucket_multiple
    smaller = dataset.resolution * 3 // 4 // multiple * multiple
    if smaller >= LEAST_RESOLUTION:
        yield Change(values={"dataset.resolution": smaller}, price="less detail")


def _halve_the_rank(situation: Situation) -> Iterator[Change]:
    rank = situation.settings.adapter.rank
    if rank > 1:
        yield Change(values={"adapter.rank": rank // 2}, price="less capacity")


def _write(value: Any) -> str:
    """Write a value as it is written on the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)


_BY_PHASE = {
    TRAIN: (
        _remember_less,
        _cut_the_batch,
        _keep_text_on_disk,
        _halve_the_precision,
        _shrink_the_moments,
        _store_the_base_smaller,
        _shrink_the_pictures,
        _halve_the_rank,
    ),
    HELD_OUT: (
        _cut_the_batch,
        _keep_text_on_disk,
        _halve_the_precision,
        _store_the_base_smaller,
        _shrink_the_pictures,
    ),
    LOAD_UNET: (_keep_text_on_disk, _halve_the_precision, _store_the_base_smaller),
    ENCODE_CAPTIONS: (_halve_the_precision,),
    ENCODE_PICTURES: (_shrink_the_pictures,),
}
"""What helps in each phase, the cheapest in time and quality first."""
PHASES = frozenset(_BY_PHASE)
"""In which something can be changed at all."""
