"""How an adapter is exported, as it was asked for."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from rasengan_xl.config.fields import Settings

Finite = Annotated[float, Field(allow_inf_nan=False)]
Precision = Literal["fp16", "bf16", "fp32"]


class ExportSettings(Settings):
    """What is to be written."""

    to: Literal["diffusers", "kohya", "comfyui", "a1111", "merged"]
    """The program that will read it, or `merged`: the base with the adapter in it."""
    target: str | None = None
    """Version of that program, such as `comfyui@0.3.77`, whose own form of DoRA is written."""
    dtype: Precision | None = None
    """Of what is written; absent: the adapter's own if it is held exactly, else fp16."""
    rank: PositiveInt | None = None
    """Rank to which every layer is brought."""
    residual: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of every layer's change that may be left out to lower its rank."""
    strength: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    """Baked in."""
    weights: Annotated[tuple[Finite, ...], Field(min_length=1)] | None = None
    """Of several adapters that are combined; absent: 1 for each."""
    merge: Literal["linear", "svd", "ties", "dare"] = "linear"
    """How several are: the sum, exactly; the sum brought to a rank; TIES (arXiv:2306.01708); DARE
    (arXiv:2311.03099)."""
    density: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of each adapter's numbers that TIES and DARE keep."""
    seed: NonNegativeInt = 0
    """Of DARE's chance."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.rank is not None and self.residual is not None:
            raise ValueError("rank and residual exclude each other: give one of them")
        if not self.strength:
            raise ValueError("strength 0 is the base itself: give another")
        if self.to == "merged" and (self.rank or self.residual or self.target):
            raise ValueError("merged holds whole weights: leave rank, residual and target out")
        if self.to == "merged" and self.merge == "svd":
            raise ValueError("merged holds whole weights: leave merge = 'svd', a rank's way, out")
        return self
