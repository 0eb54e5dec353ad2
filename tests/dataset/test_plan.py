import hashlib
from functools import partial

import pytest

from rasengan_xl.config.dataset_settings import CaptionSettings, DatasetSettings
from rasengan_xl.dataset.plan import PicturePlan, plan_pictures
from rasengan_xl.errors import DatasetError
from rasengan_xl.sources.pictures import CaptionedPicture, SkippedPicture, Source

BROKEN = SkippedPicture(name="c.png", reason="unreadable picture", detail="it is cut short")


def picture(name: str, width: int, height: int) -> CaptionedPicture:
    return CaptionedPicture(
        name=name,
        captions=(f"words of {name}",),
        picture_digest=hashlib.sha256(name.encode()).hexdigest(),
        width=width,
        height=height,
        read=partial(bytes),
    )


def plan(*pictures: CaptionedPicture, template: str = "{caption}", seed: int = 0, **changes):
    source = Source(name="pics", revision=None, pictures=pictures, skipped=(BROKEN,))
    dataset = DatasetSettings(resolution=128, bucket_multiple=16, **changes)
    return plan_pictures(source, dataset, CaptionSettings(template=template), seed)


def test_every_picture_is_used_or_skipped_and_order_is_kept():
    planned = plan(picture("a", 300, 200), picture("b", 20, 20), picture("d", 64, 64))
    assert [each.picture.name for each in planned.used] == ["a", "d"]
    assert [(each.name, each.reason) for each in planned.skipped] == [
        ("c.png", "unreadable picture"),
        ("b", "too small"),
    ]
    assert "20 x 20 px would be enlarged 6.4 times to cover 128 x 128" in planned.skipped[1].detail
    assert planned.used[0].bucket == (96, 160)
    assert planned.used[0].wordings == ("words of a",)


def test_the_largest_upscaling_itself_is_allowed():
    assert len(plan(picture("a", 32, 32), largest_upscaling=4.0).used) == 1
    with pytest.raises(DatasetError, match="too small"):
        plan(picture("a", 31, 32), largest_upscaling=4.0)


def test_the_seed_moves_random_crops_only():
    def crops(of: PicturePlan):
        return [each.crops for each in of.used]

    wide = picture("a", 900, 200)
    for policy in ("center", "top"):
        assert crops(plan(wide, crop=policy, seed=1)) == crops(plan(wide, crop=policy, seed=2))
    random = [crops(plan(wide, crop="random", crops_per_picture=3, seed=seed)) for seed in (1, 2)]
    assert random[0] != random[1]


def test_a_picture_that_nothing_can_be_said_of_is_skipped():
    with pytest.raises(DatasetError, match=r"1 no caption") as caught:
        plan(picture("a", 128, 128), template="{class}")
    assert "1 unreadable picture" in str(caught.value)


def test_a_dataset_without_a_usable_picture_is_refused_with_counts():
    with pytest.raises(DatasetError) as caught:
        plan(picture("a", 5, 5), picture("b", 6, 6))
    assert str(caught.value).startswith(
        "pics: none of 3 pictures can be used (2 too small, 1 unreadable picture); "
        "the first, c.png: it is cut short"
    )
    empty = Source(name="pics", revision=None, pictures=())
    with pytest.raises(DatasetError, match="pics: holds no pictures"):
        plan_pictures(empty, DatasetSettings(), CaptionSettings(), 0)
