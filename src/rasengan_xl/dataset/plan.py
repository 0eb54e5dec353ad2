"""What a run will do with each picture, decided before anything is encoded."""

from dataclasses import dataclass

from rasengan_xl.config.dataset_settings import CaptionSettings, DatasetSettings
from rasengan_xl.dataset.buckets import Bucket
from rasengan_xl.dataset.captions import list_wordings
from rasengan_xl.dataset.crops import Crop, CropRules, list_variants
from rasengan_xl.errors import DatasetError
from rasengan_xl.sources.pictures import (
    CaptionedPicture,
    SkippedPicture,
    Source,
    count_reasons,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPicture:
    """A picture with all its crops and wordings; a step draws one of each."""

    picture: CaptionedPicture
    crops: tuple[Crop, ...]
    """At least one; all of one size."""
    wordings: tuple[str, ...]
    """At least one; held-out loss is measured with the first."""

    @property
    def bucket(self) -> Bucket:
        """The size that it is trained at."""
        return self.crops[0].bucket


Planned = tuple[PlannedPicture, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PicturePlan:
    """Every picture of a source, used or skipped."""

    used: Planned
    skipped: tuple[SkippedPicture, ...]


def plan_pictures(
    source: Source, dataset: DatasetSettings, caption: CaptionSettings, seed: int
) -> PicturePlan:
    """Decide for each picture whether it is used, where it is cut and what is said of it.

    Args:
        source: The opened dataset.
        dataset: How to cut.
        caption: How to word.
        seed: Of the run; moves random crops only, so that without them a cache serves any seed.

    Raises:
        DatasetError: No picture is left.
    """
    rules = crop_rules(dataset, seed)
    used: list[PlannedPicture] = []
    skipped = list(source.skipped)
    for picture in source.pictures:
        planned = _plan(picture, rules, dataset, caption)
        if isinstance(planned, SkippedPicture):
            skipped.append(planned)
        else:
            used.append(planned)
    if not used:
        raise DatasetError(_describe_nothing_left(source, skipped))
    return PicturePlan(used=tuple(used), skipped=tuple(skipped))


def crop_rules(dataset: DatasetSettings, seed: int) -> CropRules:
    """Return how a recipe cuts pictures."""
    return CropRules(
        resolution=dataset.resolution,
        shapes=dataset.shapes,
        bucket_multiple=dataset.bucket_multiple,
        policy=dataset.crop,
        crops_per_picture=dataset.crops_per_picture,
        flip=dataset.flip,
        seed=seed if dataset.crop == "random" else 0,
    )


def _plan(
    picture: CaptionedPicture, rules: CropRules, dataset: DatasetSettings, caption: CaptionSettings
) -> PlannedPicture | SkippedPicture:
    crops = list_variants(picture.width, picture.height, picture.picture_digest, rules)
    upscaling, bucket = crops[0].upscaling, crops[0].bucket
    if upscaling > dataset.largest_upscaling:
        return SkippedPicture(
            name=picture.name,
            reason="too small",
            detail=f"{picture.width} x {picture.height} px would be enlarged {upscaling:.1f} times "
            f"to cover {bucket.width} x {bucket.height}: use a larger picture, or allow it with "
            "--set dataset.largest_upscaling=...",
        )
    wordings = list_wordings(picture, caption)
    if not wordings:
        return SkippedPicture(
            name=picture.name,
            reason="no caption",
            detail=f'nothing fills the template "{caption.template}": '
            "add {caption} to it with --set caption.template=...",
        )
    return PlannedPicture(picture=picture, crops=crops, wordings=wordings)


def _describe_nothing_left(source: Source, skipped: list[SkippedPicture]) -> str:
    if not skipped:
        return f"{source.name}: holds no pictures: add some, or check dataset.source"
    counts = ", ".join(f"{count} {reason}" for reason, count in count_reasons(skipped).items())
    first = skipped[0]
    return (
        f"{source.name}: none of {len(skipped)} pictures can be used ({counts}); "
        f"the first, {first.name}: {first.detail}"
    )
