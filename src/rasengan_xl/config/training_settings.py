"""What is minimised, and how: the objective and the course of training."""

from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from rasengan_xl.config.fields import Settings, UnitInterval


class ObjectiveSettings(Settings):
    """The loss, and at which noise it is taken.

    What the model predicts, noise or velocity, is its scheduler's own affair.
    """

    loss: Literal["mse", "huber"] = "mse"
    """Squared error, or Huber's, which grows linearly beyond `huber_delta`."""
    huber_delta: PositiveFloat = 0.1
    """Error of a latent value at which Huber's loss turns linear (doi:10.1214/aoms/1177703732)."""
    min_snr_gamma: PositiveFloat | None = None
    """Weigh timesteps by min(SNR, gamma), 5 in the paper (arXiv:2303.09556); absent: all alike."""
    noise_offset: NonNegativeFloat = 0.0
    """Deviation of a shift of each channel's noise as a whole, for very dark and bright pictures
    (crosslabs.org/blog/diffusion-with-offset-noise); SDXL was trained with 0.05."""
    zero_terminal_snr: bool | None = None
    """Rescale the noise schedule so that nothing is left of the picture at its end
    (arXiv:2305.08891, algorithm 1); absent: as the model's scheduler says."""
    timestep_sampling: Literal["stratified", "uniform"] = "stratified"
    """One timestep from each equal part of the schedule per optimizer step (as in
    arXiv:2107.00630, appendix I.1), or all independent."""
    timestep_range: tuple[UnitInterval, UnitInterval] = (0.0, 1.0)
    """Part of the noise schedule that is trained on, from 0, clean, to 1, all noise."""

    @model_validator(mode="after")
    def _the_range_is_not_empty(self) -> Self:
        if self.timestep_range[0] >= self.timestep_range[1]:
            raise ValueError("timestep_range must rise, as [0.0, 1.0] does")
        return self


class TrainingSettings(Settings):
    """How long and how fast."""

    steps: NonNegativeInt = 600
    """Optimizer steps; 0: an adapter that is given (`adapter.start_from`) is measured as it is."""
    batch_size: PositiveInt = 2
    """Pictures per forward pass and process."""
    accumulation: PositiveInt = 2
    """Forward passes per optimizer step and process."""
    learning_rate: PositiveFloat = 1e-4
    """Peak learning rate."""
    lora_plus_ratio: Annotated[float, Field(ge=1)] = 1.0
    """Learning rate of the matrices B as a multiple of the others': LoRA+ (arXiv:2402.12354)."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Course of the learning rate after warm-up, over all optimizer steps."""
    warmup_steps: NonNegativeInt = 20
    """Optimizer steps of linear warm-up."""
    optimizer: Literal[
        "adamw", "adamw8bit", "paged_adamw8bit", "prodigy", "schedule_free_adamw"
    ] = "adamw"
    """AdamW (arXiv:1711.05101), fused on a GPU; the same with 8-bit moments (arXiv:2110.02861),
    also paged out to main memory; Prodigy, which finds the learning rate (arXiv:2306.06101);
    schedule-free AdamW (arXiv:2405.15682)."""
    weight_decay: NonNegativeFloat = 0.01
    max_gradient_norm: PositiveFloat = 1.0
    """Gradients are scaled down to this L2 norm."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Keep an exponential moving average of the adapter, and give that one out."""
    most_skipped_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """fp16 overflow makes a step void; more than this share of the last 100 ends the run."""
    save_every: PositiveInt = 100
    """Optimizer steps between two checkpoints."""
    keep_checkpoints: PositiveInt = 2
    """Newest checkpoints kept; the best by held-out loss is kept besides."""

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Self:
        if self.steps and self.warmup_steps >= self.steps:
            raise ValueError(
                f"warmup_steps ({self.warmup_steps}) must be below steps ({self.steps})"
            )
        return self

    @model_validator(mode="after")
    def _the_optimizer_has_its_way(self) -> Self:
        if self.optimizer == "prodigy":
            if self.learning_rate != 1:
                raise ValueError("prodigy finds the learning rate: set learning_rate = 1.0")
            if self.lora_plus_ratio != 1:
                raise ValueError("prodigy has one learning rate: leave lora_plus_ratio at 1")
        if self.optimizer == "schedule_free_adamw":
            if self.schedule != "constant":
                raise ValueError('schedule_free_adamw needs schedule = "constant"')
            if self.ema_decay is not None:
                raise ValueError("schedule_free_adamw gives out an average: leave ema_decay out")
        return self
