"""Which trainers are measured, at what: every row of the table is an arm named here."""

from collections.abc import Iterable
from dataclasses import fields
from itertools import product
from typing import Any, Literal, cast

from pydantic import Field

from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.runs.records import Record

Precision = Literal["bf16", "fp16", "fp32"]
Base = Literal["full", "nf4", "nf4-small", "int8"]
Resolution = Literal[64, 512, 1024]

FAST: dict[str, str | bool] = {"channels_last": True, "attention": "auto"}
"""What `auto` means on a GPU, but for the CUDA graph, which is an arm of its own."""


class Arm(Record):
    """One trainer at one piece of work: rank 16 on the layers of attention."""

    name: str
    trainer: Literal["ours", "diffusers", "notebooks"]
    precision: Precision = "bf16"
    resolution: Resolution = 1024
    """Side of the pictures in pixels; 64 is mini SDXL's."""
    batch_size: int = 1
    base: Base = "full"
    decompose: bool = False
    """DoRA rather than LoRA."""
    checkpointing: bool = False
    """Recompute every block in the backward pass, as diffusers does it; ours is `memory`."""
    half_adapters: bool = False
    """Leave adapters in 16 bits, as diffusers' script does under bf16."""
    options: dict[str, str | bool] = Field(default_factory=dict)
    """Where our engine departs from its defaults, by the names of `EngineOptions`."""
    steps: int | None = None
    """Timed; None: as the command line says."""
    check: bool = False
    """Compare its loss and gradients with PEFT's in float32 as well."""
    count: bool = False
    """Count its operations on tensors without values as well."""

    def engine(self) -> EngineOptions:
        """Return the options of our engine."""
        return EngineOptions(**cast("Any", self.options))


def ours(name: str, *, graph: bool = False, **fields_: Any) -> Arm:
    """Name an arm of our own, at what a GPU gets by itself."""
    options = {**FAST, "cuda_graph": graph, **fields_.pop("options", {})}
    return Arm.model_validate({"name": name, "trainer": "ours", "options": options, **fields_})


def diffusers(name: str, **fields_: Any) -> Arm:
    """Name an arm of diffusers' script: adapters are as precise as there."""
    bf16 = fields_.get("precision", "bf16") == "bf16"
    known = {"name": name, "trainer": "diffusers", "half_adapters": bf16}
    return Arm.model_validate(known | fields_)


EAGER, PEER = "ours lora 1024 b1 eager", "diffusers lora 1024 b1"
FP16 = "ours lora 512 b1 fp16"
REPEATABLE = {"attention": "efficient"}
"""Attention whose backward pass adds up in the same order each time; cuDNN's does not."""
REPEATED, REPEATED_EAGER = (f"ours lora 512 b1 efficient {how}" for how in ("graph", "eager"))
RECOMPUTE = {"memory": "recompute-all"}
GOALS: tuple[Arm, ...] = (
    ours("ours lora 1024 b8", graph=True, batch_size=8),
    diffusers("diffusers lora 1024 b8 checkpointing", batch_size=8, checkpointing=True),
    ours("ours lora 1024 b1", graph=True),
    ours(EAGER, check=True, count=True),
    diffusers(PEER, count=True),
    ours("ours lora 512 b16", graph=True, resolution=512, batch_size=16),
    Arm(
        name="notebooks lora 512 b1 fp16",
        trainer="notebooks",
        precision="fp16",
        resolution=512,
        checkpointing=True,
    ),
    ours(FP16, graph=True, resolution=512, precision="fp16", steps=200),
    ours(REPEATED, graph=True, resolution=512, options=REPEATABLE),
    ours(REPEATED_EAGER, resolution=512, options=REPEATABLE),
    ours("ours dora 1024 b1", graph=True, decompose=True, check=True),
    ours("ours dora 1024 b8", graph=True, decompose=True, batch_size=8),
    ours("ours nf4-small 1024 b1 recompute", base="nf4-small", options=RECOMPUTE),
    diffusers("diffusers dora 1024 b1", decompose=True),
    diffusers("diffusers nf4 1024 b1 checkpointing", base="nf4", checkpointing=True),
    ours("ours int8 1024 b1", graph=True, base="int8", check=True),
    ours("ours nf4 1024 b1", graph=True, base="nf4", check=True),
    diffusers("diffusers lora 1024 b8", batch_size=8),
    diffusers("diffusers lora 1024 b1 fp32 adapters", half_adapters=False),
    ours("peft in our loop 1024 b1", options={"implementation": "peft"}),
)
"""What the table of goals is made of, the most important first."""


def switches(resolution: Resolution = 1024, batch_size: int = 4) -> Iterable[Arm]:
    """Name an arm for each optimisation turned off alone, and for each mode of memory."""
    # By recorded graphs: else the host's pace of launching hides what the GPU saves.
    at: dict[str, Any] = {"resolution": resolution, "batch_size": batch_size, "graph": True}
    place = f"{resolution} b{batch_size}"
    yield ours(f"ours lora {place} graph", **at)
    yield ours(f"ours lora {place} no cuda_graph", **{**at, "graph": False})
    for field in fields(EngineOptions):
        if field.default is True or field.name == "channels_last":
            yield ours(f"ours lora {place} no {field.name}", options={field.name: False}, **at)
    for kernel in ("default", "cudnn", "flash", "efficient"):
        yield ours(f"ours lora {place} attention={kernel}", options={"attention": kernel}, **at)
    for mode in ("recompute-feed-forward", "recompute-all"):
        yield ours(f"ours lora {place} {mode}", options={"memory": mode}, **at)
    yield ours(f"ours lora {place} compile", options={"compile": True}, **at)
    yield ours(f"ours lora {place} cached keys", options={"cache_text_kv": True}, **at)
    yield ours(f"ours int8 {place} int8_compute", base="int8", options={"int8_compute": True}, **at)


def grid() -> Iterable[Arm]:
    """Name every method of every trainer at every size."""
    sizes = [*product((512, 1024), (1, 4, 8)), (512, 16)]
    for precision, (resolution, batch_size) in product(("bf16", "fp16"), sizes):
        at: dict[str, Any] = {
            "precision": precision,
            "resolution": resolution,
            "batch_size": batch_size,
        }
        place = f"{resolution} b{batch_size} {precision}"
        for base, graph in product(("full", "nf4", "nf4-small", "int8"), (True, False)):
            how = "graph" if graph else "eager"
            yield ours(f"ours {base} lora {place} {how}", graph=graph, base=base, **at)
        yield ours(f"ours full dora {place} graph", graph=True, decompose=True, **at)
        for decompose, checkpointing in product((False, True), (True, False)):
            method = "dora" if decompose else "lora"
            how = " checkpointing" if checkpointing else ""
            told = {"decompose": decompose, "checkpointing": checkpointing, **at}
            yield diffusers(f"diffusers {method} {place}{how}", **told)
        yield diffusers(
            f"diffusers nf4 {place} checkpointing", base="nf4", checkpointing=True, **at
        )
    yield from (arm for arm in GOALS if arm.trainer == "notebooks")


def mini() -> Iterable[Arm]:
    """Name the arms that a CPU can try on mini SDXL's UNet."""
    at: dict[str, Any] = {"precision": "fp32", "resolution": 64, "batch_size": 2, "check": True}
    plain: dict[str, str | bool] = {"channels_last": False, "attention": "default"}
    yield ours("ours lora mini", options=plain, **at)
    cached: dict[str, str | bool] = {**plain, "cache_text_kv": True}
    yield ours("ours lora mini cached keys", options=cached, **{**at, "check": False})
    yield ours("ours dora mini", options=plain, decompose=True, **at)
    yield ours("ours nf4-small mini", options={**plain, **RECOMPUTE}, base="nf4-small", **at)
    yield ours("ours int8 mini", options=plain, base="int8", **at)
    yield diffusers("diffusers lora mini", checkpointing=True, **at)
    yield diffusers("diffusers dora mini", decompose=True, **at)
    yield diffusers("diffusers nf4 mini", base="nf4", **at)
    yield Arm(name="notebooks lora mini", trainer="notebooks", checkpointing=True, **at)


SETS = {
    "goals": lambda: GOALS,
    "switches": switches,
    "grid": grid,
    "mini": mini,
}
