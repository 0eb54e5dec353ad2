"""What one run depends on.  Every field, its unit and its default stand here and nowhere else."""

from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
LATENT_MULTIPLE = 8
"""SDXL's VAE shrinks a picture's sides by this factor."""

Share = Annotated[float, Field(ge=0, lt=1)]


class Settings(BaseModel):
    """Root of all settings: frozen, and strangers to a key are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class DatasetSettings(Settings):
    """Which captioned pictures, and how they are cut."""

    source: str = "lambdalabs/naruto-blip-captions"
    """Hub id, folder of pictures, parquet file or folder, or `mini`."""
    revision: str | None = None
    """Commit, tag or branch of a hub dataset."""
    split: str = "train"
    """Split of a hub dataset."""
    image_column: str | None = None
    """Column of the pictures; found by name if not told."""
    caption_column: str | None = None
    """Column of the captions; found by name if not told."""
    resolution: Annotated[int, Field(ge=32, multiple_of=LATENT_MULTIPLE)] = 512
    """Side of the square that is trained on, in pixels."""
    crop: Literal["center", "random"] = "center"
    """Where the square lies in a picture that is not square."""
    crops_per_picture: PositiveInt = 1
    """Random crops encoded per picture; a step draws one of them."""
    flip: bool = False
    """Whether each crop is also encoded mirrored."""
    held_out_share: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Share of the pictures that is never trained on."""
    held_out_minimum: PositiveInt = 16
    """Least number of held-out pictures."""

    @model_validator(mode="after")
    def _several_crops_are_random(self) -> Self:
        if self.crops_per_picture > 1 and self.crop == "center":
            raise ValueError('crops_per_picture > 1 needs crop = "random"')
        return self


class AdapterSettings(Settings):
    """The shape of the adapter, and how the base beneath it is stored."""

    base_precision: Literal["full", "nf4"] = "full"
    """Frozen base in the compute precision, or in 4-bit NF4: QLoRA (arXiv:2305.14314)."""
    decompose: bool = False
    """Learn magnitude apart from direction: DoRA (arXiv:2402.09353)."""
    rank: PositiveInt = 16
    """Rank r of the update BA (arXiv:2106.09685)."""
    alpha: PositiveFloat = 32
    """The update is scaled by alpha / rank."""
    dropout: Share = 0.0
    """Share of the adapter's inputs dropped while training."""
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = ("to_q", "to_k", "to_v", "to_out.0")
    """Endings of the names of the linear layers that get an adapter."""


class TrainingSettings(Settings):
    """How long and how fast."""

    steps: PositiveInt = 600
    """Optimizer steps."""
    batch_size: PositiveInt = 2
    """Pictures per forward pass."""
    accumulation: PositiveInt = 2
    """Forward passes per optimizer step."""
    learning_rate: PositiveFloat = 1e-4
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Course of the learning rate after warm-up, over all optimizer steps."""
    warmup_steps: NonNegativeInt = 20
    """Optimizer steps of linear warm-up."""
    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    """AdamW in float32, or with 8-bit moments from bitsandbytes."""
    weight_decay: NonNegativeFloat = 0.01
    max_gradient_norm: PositiveFloat = 1.0
    """Gradients are scaled down to this L2 norm."""
    caption_dropout: Share = 0.0
    """Share of pictures trained with zeroed text, for classifier-free guidance."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    save_every: PositiveInt = 100
    """Optimizer steps between two checkpoints."""

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Self:
        if self.warmup_steps >= self.steps:
            raise ValueError(
                f"warmup_steps ({self.warmup_steps}) must be below steps ({self.steps})"
            )
        return self


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
    timesteps: PositiveInt = 8
    """Evenly spaced timesteps per picture, each with its own noise."""


class RunSettings(Settings):
    """Everything one training run depends on."""

    seed: NonNegativeInt = 0
    """Seed of adapter, order, crops, timesteps and noise."""
    base_model: str = SDXL
    """Diffusers folder, hub id, or `mini`."""
    base_revision: str | None = None
    """Commit, tag or branch of a hub model."""
    dataset: DatasetSettings = DatasetSettings()
    adapter: AdapterSettings = AdapterSettings()
    training: TrainingSettings = TrainingSettings()
    compute: ComputeSettings = ComputeSettings()
    evaluation: EvaluationSettings = EvaluationSettings()


class PictureSettings(Settings):
    """The pictures that show what base and adapters draw."""

    prompts: Annotated[tuple[str, ...], Field(min_length=1)]
    negative_prompt: str | None = None
    """Absent: zeroed text, as SDXL was trained with."""
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0,)
    """Each prompt is drawn once per seed; the seed fixes the first noise."""
    sampler_steps: PositiveInt = 30
    guidance: PositiveFloat = 5.0
    """Scale of classifier-free guidance; 1 turns it off."""
    size: Annotated[int, Field(ge=32, multiple_of=LATENT_MULTIPLE)] | None = None
    """Side in pixels; absent: the resolution that was trained at."""
    batch_size: PositiveInt = 1
    """Pictures drawn at once."""


class ComparisonSettings(Settings):
    """A base recipe and named variations of it."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
    varies: tuple[str, ...]
    """Keys, or tables, in which arms may differ; any other difference is refused."""
    arms: Annotated[dict[str, RunSettings], Field(min_length=1)]
    """Each arm, resolved."""
    pictures: PictureSettings
