import hashlib
import random
from functools import partial

import pytest

from rasengan_xl.config.dataset_settings import CaptionSettings, DatasetSettings
from rasengan_xl.dataset.plan import PlannedPicture, plan_pictures
from rasengan_xl.dataset.split import fingerprint, split_held_out
from rasengan_xl.errors import DatasetError
from rasengan_xl.sources.pictures import CaptionedPicture, Source


def picture(name: str, content: str | None = None, template: str = "{caption}") -> PlannedPicture:
    captioned = CaptionedPicture(
        name=name,
        captions=(f"caption of {name}",),
        picture_digest=hashlib.sha256((content or name).encode()).hexdigest(),
        width=512,
        height=512,
        read=partial(bytes),
    )
    source = Source(name="pics", revision=None, pictures=[captioned])
    plan = plan_pictures(source, DatasetSettings(), CaptionSettings(template=template), 0)
    return plan.used[0]


PICTURES = [picture(f"{number}.png") for number in range(100)]


def test_the_parts_share_no_picture_and_miss_none_and_keep_their_order():
    train, held_out = split_held_out(PICTURES, 0.05, 1)
    assert (len(train), len(held_out)) == (95, 5)
    assert sorted((*train, *held_out), key=PICTURES.index) == PICTURES
    assert list(train) == sorted(train, key=PICTURES.index)
    assert list(held_out) == sorted(held_out, key=PICTURES.index)


def test_the_minimum_goes_before_the_share():
    assert len(split_held_out(PICTURES, 0.05, 16)[1]) == 16
    assert len(split_held_out(PICTURES, 0.2, 16)[1]) == 20


def test_content_decides_and_not_the_order():
    shuffled = random.Random(0).sample(PICTURES, len(PICTURES))
    assert set(split_held_out(shuffled, 0.1, 1)[1]) == set(split_held_out(PICTURES, 0.1, 1)[1])


def test_a_new_picture_moves_at_most_one_across():
    before = set(split_held_out(PICTURES, 0.0, 10)[1])
    after = set(split_held_out([*PICTURES, picture("new.png")], 0.0, 10)[1])
    assert len(before - after) <= 1


def test_copies_of_a_picture_are_never_in_both_parts():
    copies = [picture(f"{number}-{copy}", str(number)) for number in range(12) for copy in "abc"]
    for minimum in range(1, 30):
        train, held_out = split_held_out(copies, 0.0, minimum)
        assert len(held_out) == -(-minimum // 3) * 3
        held_out_digests = {each.picture.picture_digest for each in held_out}
        assert held_out_digests.isdisjoint(each.picture.picture_digest for each in train)


def test_a_split_that_leaves_nothing_to_train_on_is_refused():
    with pytest.raises(DatasetError, match=r"16 of 12 .*--set dataset\.held_out_minimum"):
        split_held_out(PICTURES[:12], 0.05, 16)
    same = [picture(name, "same") for name in "abc"]
    with pytest.raises(DatasetError, match=r"1 of 3 .*copies of one picture together"):
        split_held_out(same, 0.0, 1)


def test_the_fingerprint_knows_pictures_captions_wordings_and_order():
    assert fingerprint(PICTURES) == fingerprint(tuple(PICTURES))
    assert (
        len(
            {
                fingerprint(PICTURES),
                fingerprint(PICTURES[::-1]),
                fingerprint(PICTURES[1:]),
                fingerprint([picture("other name", "0.png"), *PICTURES[1:]]),
                fingerprint([picture("0.png", template="so: {caption}"), *PICTURES[1:]]),
            }
        )
        == 5
    )
