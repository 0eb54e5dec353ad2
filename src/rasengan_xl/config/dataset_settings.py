"""Which captioned pictures a run sees, how they are cut, and what is said of them."""

from string import Formatter
from typing import Annotated, Literal, Self

from PIL import ImageColor
from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from rasengan_xl.config.fields import Settings, Share

LATENT_MULTIPLE = 8
"""SDXL's VAE shrinks a picture's sides by this factor."""


class DatasetSettings(Settings):
    """Which captioned pictures, and how they are cut."""

    source: str = "lambdalabs/naruto-blip-captions"
    """Hub id, folder of pictures, parquet, Arrow or tar shards (file, folder), any of these by an
    address such as `s3://` or `hf://`, or `mini`."""
    revision: str | None = None
    """Commit, tag or branch of a hub dataset."""
    config: str | None = None
    """Configuration of a hub dataset that has several."""
    split: str = "train"
    """Split of a hub dataset or of shards; also a slice of it such as `train[:100]`."""
    streaming: bool = False
    """Read a hub dataset's pictures twice over the network and store none of them."""
    image_column: str | None = None
    """Column of the pictures; found by name if not told."""
    caption_column: str | None = None
    """Column of the captions; found by name if not told."""
    background: str = "white"
    """Colour that shows through transparent pictures: a CSS name or `#rrggbb`."""
    resolution: Annotated[int, Field(ge=32, multiple_of=LATENT_MULTIPLE)] = 512
    """Side in pixels of the square whose area every training size keeps to."""
    shapes: Literal["buckets", "square"] = "buckets"
    """Cut each picture to the training size nearest to its own aspect ratio, or to a square."""
    bucket_multiple: Annotated[int, Field(gt=0, multiple_of=LATENT_MULTIPLE)] = 64
    """Sides of buckets are multiples of this many pixels."""
    crop: Literal["center", "random", "top"] = "center"
    """What stays of a picture that does not fit its training size: the middle; a place that is
    drawn; or the top, where faces are."""
    crops_per_picture: PositiveInt = 1
    """Random crops encoded per picture; a step draws one of them."""
    flip: bool = False
    """Whether each crop is also encoded mirrored."""
    largest_upscaling: Annotated[float, Field(ge=1)] = 4.0
    """A picture that would have to be enlarged more than this is skipped, and counted."""
    held_out_share: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Share of the pictures that is never trained on."""
    held_out_minimum: PositiveInt = 16
    """Least number of held-out pictures."""

    @field_validator("background")
    @classmethod
    def _is_a_colour(cls, colour: str) -> str:
        if len(ImageColor.getrgb(colour)) != 3:
            raise ValueError("a background has no transparency of its own; write #rrggbb")
        return colour

    @model_validator(mode="after")
    def _several_crops_are_random(self) -> Self:
        if self.crops_per_picture > 1 and self.crop != "random":
            raise ValueError('crops_per_picture > 1 needs crop = "random"')
        return self

    @model_validator(mode="after")
    def _the_square_is_a_bucket(self) -> Self:
        if self.shapes == "buckets" and self.resolution % self.bucket_multiple:
            raise ValueError(
                f"resolution ({self.resolution}) is not a multiple of bucket_multiple "
                f"({self.bucket_multiple}): set bucket_multiple = {LATENT_MULTIPLE}, or "
                'shapes = "square"'
            )
        return self


class CaptionSettings(Settings):
    """What the model is told about a picture."""

    origin: Literal["files", "folder_name"] = "files"
    """For folders of pictures: text files and metadata, or the name of the picture's folder."""
    template: str = "{caption}"
    """What is made of a caption; may hold {caption}, {trigger} and {class}, the name of the
    picture's folder or its label: "{trigger}, {class}, {caption}"."""
    trigger: str = ""
    """Word that stands for the style, for {trigger}."""
    tag_shuffles: NonNegativeInt = 0
    """Encode this many shuffles of each caption's comma-separated tags; a step draws one."""
    kept_tags: NonNegativeInt = 0
    """Tags at the beginning that a shuffle leaves in place."""
    dropout: Share = 0.0
    """Share of pictures trained with the null caption, for classifier-free guidance."""
    null: Literal["zeros", "empty"] = "zeros"
    """The null caption: zeroed text, as SDXL was trained with, or the encoded empty text."""

    @field_validator("template")
    @classmethod
    def _fields_are_known(cls, template: str) -> str:
        parsed = [part for part in Formatter().parse(template) if part[1] is not None]
        fields = {name for _, name, _, _ in parsed if name is not None}
        if any(form or conversion for _, _, form, conversion in parsed):
            raise ValueError("fields are filled in as they are: write {caption}, no more")
        if unknown := fields - {"caption", "trigger", "class"}:
            raise ValueError(
                f"{{{min(unknown)}}} is unknown; write {{caption}}, {{trigger}} or {{class}}"
            )
        return template

    @model_validator(mode="after")
    def _the_trigger_is_used(self) -> Self:
        if bool(self.trigger) != ("{trigger}" in self.template):
            raise ValueError("trigger and {trigger} in template need one another")
        return self
