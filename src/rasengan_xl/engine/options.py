"""What of the engine is in use, once everything that was `auto` is settled."""

from dataclasses import dataclass, fields
from typing import Literal

from rasengan_xl.config.engine_settings import MemoryMode


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """What of the engine is in use; each by the words of `EngineSettings`."""

    implementation: Literal["fused", "peft"] = "fused"
    memory: MemoryMode = "keep-all"
    group_projections: bool = True
    batch_text_projections: bool = True
    lean_feed_forward: bool = True
    recompute_norms: bool = True
    frozen_convolutions: bool = True
    fused_group_norm: bool = True
    channels_last: bool = False
    attention: Literal["auto", "default", "cudnn", "flash", "efficient", "math"] = "default"
    cuda_graph: bool = False
    compile: bool = False
    cache_text_kv: bool = False
    int8_compute: bool = False

    def facts(self) -> dict[str, str | bool]:
        """Return what a run's record says of it."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
