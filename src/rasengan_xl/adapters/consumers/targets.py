"""Which programs read an export, in which versions, and how each computes DoRA."""

import re
from dataclasses import dataclass
from typing import Literal

from rasengan_xl.adapters.decomposition import PEFT_DORA, Decomposition
from rasengan_xl.errors import OutputError

Consumer = Literal["diffusers", "kohya", "comfyui", "a1111"]
CONSUMERS: tuple[Consumer, ...] = ("diffusers", "kohya", "comfyui", "a1111")

FLOAT32_EPSILON = 2.0**-23


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What an adapter is written for."""

    consumer: Consumer
    name: str
    """As the user names it, such as `comfyui@0.3.77`; without a version, that of the consumer."""
    decompositions: tuple[Decomposition, ...] = ()
    """The forms of DoRA that it computes from a file; none: what is written is plain LoRA."""

    @property
    def is_version(self) -> bool:
        """Whether one version of the program was asked for."""
        return "@" in self.name

    def decompositions_of(self, layer: str) -> tuple[Decomposition, ...]:
        """Return the forms of DoRA that it computes for a layer.

        diffusers has transformers load the adapters of text encoders, which drops magnitudes
        (transformers 5.23, integrations/peft.py), with a line in its log.
        """
        dropped = self.consumer == "diffusers" and not layer.startswith("unet.")
        return () if dropped else self.decompositions


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownVersions:
    """A row of what is known."""

    consumer: Consumer
    program: str
    first: str
    last: str
    """The newest version for which it was seen; a newer one may have changed."""
    decompositions: tuple[Decomposition, ...]
    source: str

    @property
    def spelled(self) -> str:
        """How a user names these versions."""
        return f"{self.program}@{self.first}" + (
            f" to {self.program}@{self.last}" if self.last != self.first else ""
        )


KNOWN_VERSIONS = (
    KnownVersions(
        consumer="comfyui",
        program="comfyui",
        first="0.3.42",
        last="0.24.0",
        decompositions=(
            Decomposition(norm_of="base", epsilon=FLOAT32_EPSILON),
            Decomposition(axis="input", epsilon=FLOAT32_EPSILON),
        ),
        source="comfy/weight_adapter/base.py since its pull request 7727 of April 2025: with a "
        "scale for each output, the norm is W's own; still so in August 2026 (pull request 15458)",
    ),
    KnownVersions(
        consumer="comfyui",
        program="comfyui",
        first="pr15458",
        last="pr15458",
        decompositions=(
            Decomposition(epsilon=FLOAT32_EPSILON),
            Decomposition(axis="input", epsilon=FLOAT32_EPSILON),
        ),
        source="with its pull request 15458, which takes both norms of W + sBA",
    ),
    KnownVersions(
        consumer="kohya",
        program="lycoris",
        first="3.2",
        last="4.1.3",
        decompositions=(Decomposition(epsilon=FLOAT32_EPSILON),),
        source="lycoris/functional/general.py, with its default wd_on_output = True since 3.1.1",
    ),
    KnownVersions(
        consumer="a1111",
        program="a1111",
        first="1.10",
        last="1.10.1",
        decompositions=(Decomposition(axis="input"),),
        source="extensions-builtin/Lora/network.py since its pull request 16151: by input only",
    ),
)


def find_target(consumer: Consumer, version: str | None = None) -> Target:
    """Find what to write for.

    Args:
        consumer: The program.
        version: Such as `comfyui@0.3.77`, which opts into that version's own form of DoRA.

    Raises:
        OutputError: How that version computes DoRA is not known.
    """
    if version is None:
        own = (PEFT_DORA,) if consumer == "diffusers" else ()
        return Target(consumer=consumer, name=consumer, decompositions=own)
    program, _, number = version.lower().partition("@")
    of_consumer = [known for known in KNOWN_VERSIONS if known.consumer == consumer]
    if not of_consumer:
        raise OutputError(
            f"--target {version}: {consumer} computes one form of DoRA in all its versions; leave "
            "--target out"
        )
    for known in of_consumer:
        if program == known.program and _is_within(number, known):
            return Target(
                consumer=consumer,
                name=f"{program}@{number}",
                decompositions=known.decompositions,
            )
    listed = spell_versions(consumer)
    raise OutputError(
        f"--target {version}: how it computes DoRA is not known; known for --to {consumer}: "
        f"{listed}; without --target, a plain LoRA is written, which every version reads alike"
    )


def spell_versions(consumer: Consumer) -> str:
    """List the versions of which it is known how they compute DoRA."""
    return ", ".join(known.spelled for known in KNOWN_VERSIONS if known.consumer == consumer)


def _is_within(number: str, known: KnownVersions) -> bool:
    first, wanted, last = (_parse(text) for text in (known.first, number, known.last))
    if first is None or wanted is None or last is None:
        return number == known.first
    return first <= wanted and wanted[: len(last)] <= last


def _parse(text: str) -> tuple[int, ...] | None:
    text = text.removeprefix("v")
    if not re.fullmatch(r"\d{1,4}(\.\d{1,4})*", text):
        return None
    return tuple(int(number) for number in text.split("."))
