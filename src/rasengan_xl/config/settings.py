"""What one run depends on.

Every field, its unit and its default stand here and in the two modules that this one builds on,
and nowhere else.
"""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from rasengan_xl.config.base_precisions import STORAGES, BasePrecision
from rasengan_xl.config.dataset_settings import CaptionSettings, DatasetSettings
from rasengan_xl.config.engine_settings import EngineSettings
from rasengan_xl.config.fields import Settings, Share
from rasengan_xl.config.training_settings import ObjectiveSettings, TrainingSettings

SDXL = "stabilityai/stable-diffusion-xl-base-1.0"


class LayerShape(Settings):
    """Rank and alpha of one layer."""

    layer: str
    """Its full name in the UNet."""
    rank: PositiveInt
    alpha: PositiveFloat


class AdapterSettings(Settings):
    """The shape of the adapter, and how the base beneath it is stored."""

    base_precision: BasePrecision = "full"
    """Frozen base in the compute precision; its linear weights in 4-bit NF4: QLoRA
    (arXiv:2305.14314); those and its convolutions in 8-bit int8: `nf4-small`; or all of it in
    int8.  It computes in the compute precision whatever it is stored in."""
    decompose: bool = False
    """Learn magnitude apart from direction: DoRA (arXiv:2402.09353)."""
    rank: PositiveInt = 16
    """Rank r of the update BA (arXiv:2106.09685)."""
    alpha: PositiveFloat = 32
    """The update is scaled by alpha / rank."""
    dropout: Share = 0.0
    """Share of the adapter's inputs dropped while training; the draw depends on how a step is cut
    into forward passes and processes."""
    rank_stabilized: bool = False
    """Scale by alpha / sqrt(rank) instead: rsLoRA (arXiv:2312.03732)."""
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = ("to_q", "to_k", "to_v", "to_out.0")
    """Endings of the names of the linear layers and convolutions that get an adapter."""
    layer_shapes: tuple[LayerShape, ...] = ()
    """Layers among the targets that have another rank or alpha."""
    start_from: str | None = None
    """Adapter to go on from: a run's folder, or a file of any trainer, which then also decides
    rank, alpha, decompose and targets; absent: a fresh one."""
    start_digest: str | None = None
    """SHA-256 of that file: found by itself, and held to when a run is continued."""
    start_text: Literal["refuse", "leave-out"] = "refuse"
    """What becomes of changes to text encoders in that file, which training cannot go on with."""

    @model_validator(mode="after")
    def _a_digest_is_of_a_start(self) -> Self:
        if self.start_digest is not None and self.start_from is None:
            raise ValueError("start_digest is of nothing without start_from; leave it out")
        return self

    def rank_of(self, layer: str) -> int:
        """Return the rank of a layer, by its full name in the UNet."""
        return next((each.rank for each in self.layer_shapes if each.layer == layer), self.rank)

    def scale_of(self, layer: str) -> float:
        """Return what a layer's product of factors is multiplied by."""
        own = (each.alpha for each in self.layer_shapes if each.layer == layer)
        alpha, rank = next(own, self.alpha), self.rank_of(layer)
        return alpha / (math.sqrt(rank) if self.rank_stabilized else rank)


class ComputeSettings(Settings):
    """Where and in which precision."""

    device: Literal["auto", "cuda", "cpu"] = "auto"
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """Of the frozen base and of arithmetic; `auto` is bf16 where the GPU has it, fp16 where it
    has not, fp32 on a CPU.  Adapters are always fp32."""


class EvaluationSettings(Settings):
    """The fixed table on which held-out loss is measured."""

    pictures: PositiveInt = 64
    """Most held-out pictures used."""
    timesteps: PositiveInt = 10
    """Evenly spaced timesteps per picture, each with its own noise."""
    tuning_pictures: NonNegativeInt = 0
    """Held-out pictures, the first ones, set aside for choosing learning rates: no reported
    figure is over them."""
    split: Literal["reported", "tuning"] = "reported"
    """Which of the held-out pictures a run is measured on."""
    checkpoint_pictures: NonNegativeInt = 16
    """Held-out pictures measured at each checkpoint, to keep the best one; 0: none."""


class RunSettings(Settings):
    """Everything one training run depends on."""

    seed: NonNegativeInt = 0
    """Seed of adapter, order, crops, timesteps and noise."""
    base_model: str = SDXL
    """Diffusers folder, hub id, or `mini`."""
    base_revision: str | None = None
    """Commit, tag or branch of a hub model."""
    dataset: DatasetSettings = DatasetSettings()
    caption: CaptionSettings = CaptionSettings()
    adapter: AdapterSettings = AdapterSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    training: TrainingSettings = TrainingSettings()
    compute: ComputeSettings = ComputeSettings()
    engine: EngineSettings = EngineSettings()
    evaluation: EvaluationSettings = EvaluationSettings()

    @property
    def is_given(self) -> bool:
        """Whether the adapter is measured as it is given, and not trained."""
        return self.training.steps == 0

    @model_validator(mode="after")
    def _what_is_not_trained_is_given(self) -> Self:
        if not self.is_given:
            return self
        if self.adapter.start_from is None:
            raise ValueError(
                "training.steps = 0 measures an adapter as it is: name it by adapter.start_from, "
                "or train for some steps"
            )
        if STORAGES[self.adapter.base_precision].is_quantized:
            raise ValueError(
                "training.steps = 0 measures an adapter on the unquantized base: set "
                'adapter.base_precision = "full"'
            )
        return self
