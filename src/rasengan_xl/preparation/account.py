"""What happened to each picture of a dataset."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rasengan_xl.dataset.crops import Crop
from rasengan_xl.dataset.plan import PicturePlan, Planned, PlannedPicture
from rasengan_xl.preparation.duplicates import Group, group_alike, group_copies
from rasengan_xl.preparation.long_captions import LongCaptions
from rasengan_xl.preparation.records import (
    AccountSummary,
    BucketCount,
    CropRecord,
    LookAlike,
    Outcome,
    PictureRecord,
)
from rasengan_xl.sources.pictures import SkippedPicture, Source, count_reasons

MOST_EXAMPLES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What happened to a dataset."""

    summary: AccountSummary
    pictures: tuple[PictureRecord, ...]
    """Those used, in the order of the plan, then those skipped."""


def take_account(
    source: Source, plan: PicturePlan, held_out: Planned, captions: Sequence[LongCaptions]
) -> Account:
    """Say what happened to every picture that was found.

    Args:
        source: Where they come from.
        plan: What is done with each.
        held_out: Those of the plan that are never trained on.
        captions: How long the wordings are.
    """
    set_aside = {id(planned) for planned in held_out}
    trained = [id(planned) not in set_aside for planned in plan.used]
    copies = group_copies([planned.picture.picture_digest for planned in plan.used])
    alike = group_alike([planned.picture.look for planned in plan.used])
    copy_of = _first_of_others(copies, lambda _first, _row: True)
    looks_like = _first_of_others(
        alike, lambda first, row: _digest(plan.used[first]) != _digest(plan.used[row])
    )
    used = [
        _record_used(row, planned, "trained" if trained[row] else "held out", copy_of, looks_like)
        for row, planned in enumerate(plan.used)
    ]
    skipped = [
        _record_skipped(number, picture)
        for number, picture in enumerate(plan.skipped, len(used) + 1)
    ]
    leaks = _find_leaks(alike, trained)
    summary = AccountSummary(
        source=source.name,
        revision=source.revision,
        found=len(source.pictures) + len(source.skipped),
        used=len(used),
        trained=sum(trained),
        held_out=len(held_out),
        skipped=len(skipped),
        skipped_by_reason=count_reasons(plan.skipped),
        skipped_examples={
            record.reason or "": f"{record.name}: {record.detail}" for record in reversed(skipped)
        },
        ignored_files=dict(source.ignored),
        upscaled=sum(record.upscaled_by is not None for record in used),
        animated=sum(record.animated for record in used),
        notes=dict(Counter(note for record in used for note in record.notes).most_common()),
        buckets=_count_buckets(used),
        copies=len(copy_of),
        alike=sum(record.looks_like is not None and record.copy_of is None for record in used),
        held_out_alike=len(leaks),
        held_out_alike_examples=tuple(
            LookAlike(held_out=used[row].name, trained=used[other].name)
            for row, other in list(leaks.items())[:MOST_EXAMPLES]
        ),
        captions=tuple(captions),
    )
    assert summary.found == summary.used + summary.skipped
    assert summary.used == summary.trained + summary.held_out
    return Account(summary=summary, pictures=(*used, *skipped))


def _digest(planned: PlannedPicture) -> str:
    return planned.picture.picture_digest


def _first_of_others(groups: Sequence[Group], counts: Callable[[int, int], bool]) -> dict[int, int]:
    """Map each row of a group to the group's first row, if it counts and is another."""
    return {row: group[0] for group in groups for row in group[1:] if counts(group[0], row)}


def _find_leaks(alike: Sequence[Group], trained: Sequence[bool]) -> dict[int, int]:
    """Map each held-out row that looks like a trained one to the first such."""
    leaks: dict[int, int] = {}
    for group in alike:
        seen = next((row for row in group if trained[row]), None)
        if seen is not None:
            leaks.update({row: seen for row in group if not trained[row]})
    return dict(sorted(leaks.items()))


def _record_used(
    row: int,
    planned: PlannedPicture,
    outcome: Outcome,
    copy_of: Mapping[int, int],
    looks_like: Mapping[int, int],
) -> PictureRecord:
    picture, first = planned.picture, planned.crops[0]
    return PictureRecord(
        number=row + 1,
        name=_writable(picture.name),
        outcome=outcome,
        width=picture.width,
        height=picture.height,
        bucket=name_bucket(first),
        crops=tuple(_record_crop(crop) for crop in planned.crops),
        upscaled_by=round(first.upscaling, 3) if first.upscaled else None,
        animated=picture.animated,
        wordings=len(planned.wordings),
        copy_of=copy_of[row] + 1 if row in copy_of else None,
        looks_like=looks_like[row] + 1 if row in looks_like else None,
        notes=picture.notes,
    )


def _record_skipped(number: int, picture: SkippedPicture) -> PictureRecord:
    return PictureRecord(
        number=number,
        name=_writable(picture.name),
        outcome="skipped",
        reason=picture.reason,
        detail=picture.detail,
    )


def name_bucket(crop: Crop) -> str:
    """Return the size that a crop is trained at, as width x height."""
    return f"{crop.target_width}x{crop.target_height}"


def _writable(name: str) -> str:
    """Spell out the bytes of a file name that are not UTF-8, which JSON cannot hold."""
    return name.encode("utf-8", "backslashreplace").decode()


def _record_crop(crop: Crop) -> CropRecord:
    return CropRecord(
        resized_width=crop.resized_width,
        resized_height=crop.resized_height,
        flipped=crop.flipped,
        left=crop.left,
        top=crop.top,
    )


def _count_buckets(used: Sequence[PictureRecord]) -> dict[str, BucketCount]:
    counts = Counter((record.bucket or "", record.outcome) for record in used)
    sizes = Counter(record.bucket or "" for record in used)
    return {
        size: BucketCount(trained=counts[size, "trained"], held_out=counts[size, "held out"])
        for size, _ in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    }
