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
        return " ".join(f"--set {key}={value}" for key, value in self.values.items())

    def applied(self, settings: RunSettings) -> RunSettings:
        """Return settings with the change."""
        for key, value in self.values.items():
            table, _, name = key.partition(".")
            changed = getattr(settings, table).model_copy(update={name: value})
            settings = settings.model_copy(update={table: changed})
        return settings


def list_changes(
    settings: RunSettings, phase: str, memory: MemoryMode, compute: tuple[str, torch.dtype]
) -> Iterator[Change]:
    """List what would need less memory in a phase; what is so already is left out.

    Args:
        settings: As they are.
        phase: What memory lacked for.
        memory: The memory mode in use.
        compute: Type of the device, and precision.
    """
    if phase == TRAIN:
        yield from _remember_less(settings, memory)
    if phase in {TRAIN, HELD_OUT}:
        yield from _cut_the_batch(settings)
    if compute[1] is torch.float32 and phase != ENCODE_PICTURES:
        on_cuda = compute[0] == "cuda"
        yield Change(
            values={"compute.precision": "auto" if on_cuda else "bf16"},
            price="faster" if on_cuda else "slower on many CPUs",
        )
    if phase == TRAIN:
        yield from _shrink_the_moments(settings, on_cuda=compute[0] == "cuda")
    if phase in {TRAIN, HELD_OUT, LOAD_UNET}:
        for precision, price in _COARSER[settings.adapter.base_precision]:
            yield Change(values={"adapter.base_precision": precision}, price=price)
    if phase in {TRAIN, HELD_OUT, ENCODE_PICTURES}:
        yield from _shrink_the_pictures(settings)
    if phase == TRAIN and settings.adapter.rank > 1:
        yield Change(values={"adapter.rank": settings.adapter.rank // 2}, price="less capacity")


def _remember_less(settings: RunSettings, memory: MemoryMode) -> Iterator[Change]:
    is_peft = settings.engine.implementation == "peft"
    for mode, price in _LEANER[memory]:
        if not (is_peft and mode == "recompute-feed-forward"):
            yield Change(values={"engine.memory": mode}, price=price)


def _cut_the_batch(settings: RunSettings) -> Iterator[Change]:
    training = settings.training
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


def _shrink_the_moments(settings: RunSettings, *, on_cuda: bool) -> Iterator[Change]:
    if settings.training.optimizer == "adamw":
        yield Change(values={"training.optimizer": "adamw8bit"}, price="nearly the same result")
    if settings.training.optimizer == "adamw8bit" and on_cuda:
        yield Change(values={"training.optimizer": "paged_adamw8bit"}, price="same result, slower")


def _shrink_the_pictures(settings: RunSettings) -> Iterator[Change]:
    dataset = settings.dataset
    multiple = dataset.bucket_multiple
    smaller = dataset.resolution * 3 // 4 // multiple * multiple
    if smaller:
        yield Change(values={"dataset.resolution": smaller}, price="less detail")
