"""What a comparison depends on: its arms, seeds and design, and how their pictures are judged."""

from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from rasengan_xl.config.dataset_settings import LATENT_MULTIPLE
from rasengan_xl.config.fields import Settings
from rasengan_xl.config.settings import RunSettings

BASE = "base"
"""What the base model without adapter is called, beside the names of the arms."""

RESERVED = frozenset({BASE, "reference"})

ArmName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
"""Names a folder, too."""

DEFAULT_ENCODERS = {"clip": "openai/clip-vit-large-patch14", "dino": "facebook/dinov2-base"}
"""CMMD's CLIP (arXiv:2401.09603), though at 224 px, since at 336 px it is published as a pickle
alone; and the encoder that people's eyes agree with more (arXiv:2306.04675), in a small size."""

EncoderKey = Literal["clip", "dino", "reader"]

NEUTRAL_PROMPTS = (
    "a photograph of a bowl of fruit on a wooden table",
    "a red car parked in front of a brick house",
    "an aerial photograph of a coast",
    "a golden retriever running through a meadow",
    "the interior of a modern kitchen",
    "a close-up of a blue flower after rain",
    "a mountain lake at sunrise",
    "a city street at night in the rain",
)


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


class ScoringSettings(Settings):
    """The pictures that are drawn to be judged by numbers, and the encoders that judge them.

    Sampler, guidance and size are those of the pictures that are shown.
    """

    pictures: NonNegativeInt = 32
    """Captions of held-out pictures drawn by the base and by every run; 0: none is scored."""
    sampler_steps: PositiveInt | None = None
    """Absent: as many as for the pictures that are shown."""
    neutral_prompts: tuple[str, ...] = NEUTRAL_PROMPTS
    """What has nothing to do with the style: how far an adapter moves these is its drift."""
    encoders: tuple[EncoderKey, ...] = ("clip", "dino")
    """What judges pictures: a CLIP, for CMMD, KID and prompt fidelity; a DINOv2, for CMMD and KID;
    the attribute reader of the mini world, which knows no other.  One that cannot be had is told,
    and its columns are left out."""
    clip: str = DEFAULT_ENCODERS["clip"]
    """Hub id or folder."""
    clip_revision: str | None = None
    """Commit, tag or branch of a hub model; absent: a pinned commit for the default."""
    dino: str = DEFAULT_ENCODERS["dino"]
    """Hub id or folder."""
    dino_revision: str | None = None
    batch_size: PositiveInt = 16
    """Pictures encoded at once."""


class SweepSettings(Settings):
    """Learning rates tried for every arm before it is trained in earnest."""

    learning_rate: Annotated[tuple[PositiveFloat, ...], Field(min_length=2)]
    """The one with the lowest loss on the tuning pictures is taken."""
    seed: NonNegativeInt = 1000
    """Of the trials: none of the reported runs has it."""
    steps: PositiveInt | None = None
    """Of a trial; absent: as many as a reported run."""

    @field_validator("learning_rate")
    @classmethod
    def _rates_are_distinct(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        # As a trial's folder is named: rates that are written alike would share one.
        written = [f"{rate:g}" for rate in rates]
        if twice := [rate for rate in written if written.count(rate) > 1]:
            raise ValueError(f"names {twice[0]} twice; give rates that differ in six digits")
        return rates


class ComparisonSettings(Settings):
    """A base recipe and named variations of it, each trained with every seed."""

    name: ArmName
    varies: tuple[str, ...]
    """Keys, or tables, in which arms may differ; any other difference is refused."""
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0,)
    """Training seeds: adapter, order, timesteps and noise change together."""
    design: Literal["one-factor", "matched"] | None = None
    """Hold the arms to it: each differs from the first in one thing; or all have equally many
    trainable parameters."""
    arms: Annotated[dict[ArmName, RunSettings], Field(min_length=1)]
    """Each arm, resolved."""
    pictures: PictureSettings
    scoring: ScoringSettings = ScoringSettings()
    sweep: SweepSettings | None = None
    """Absent: learning rates are as the arms say."""

    @model_validator(mode="after")
    def _seeds_are_the_comparisons(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds names one twice")
        own = [name for name, arm in self.arms.items() if arm.seed != RunSettings().seed]
        if own:
            raise ValueError(
                f"the arm {own[0]} sets a seed of its own: a comparison trains every arm with "
                f"each of seeds = [...]; write seeds = [{self.arms[own[0]].seed}]"
            )
        return self

    @model_validator(mode="after")
    def _no_arm_has_a_reserved_name(self) -> Self:
        for name in RESERVED & self.arms.keys():
            raise ValueError(f"an arm cannot be called {name!r}: the report has that for its own")
        return self

    @model_validator(mode="after")
    def _what_is_given_is_neither_tuned_nor_designed(self) -> Self:
        given = next((name for name, arm in self.arms.items() if arm.is_given), None)
        if given is None:
            return self
        if self.sweep is not None:
            raise ValueError(
                f"the arm {given} is given (training.steps = 0): it has no learning rate for a "
                "sweep to find; remove the sweep, or the arm"
            )
        if self.design is not None:
            raise ValueError(
                f'the arm {given} is given (training.steps = 0): design = "{self.design}" cannot '
                "hold it to what nobody here has set; remove the key design, or the arm"
            )
        return self

    @model_validator(mode="after")
    def _a_sweep_has_pictures_of_its_own(self) -> Self:
        if self.sweep is None:
            return self
        if self.sweep.seed in self.seeds:
            raise ValueError(f"sweep.seed = {self.sweep.seed} is among seeds: choose another")
        without = [n for n, arm in self.arms.items() if not arm.evaluation.tuning_pictures]
        if without:
            raise ValueError(
                "a sweep needs pictures that nothing is reported on: "
                "--set evaluation.tuning_pictures=16"
            )
        return self
