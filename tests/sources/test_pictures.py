from dataclasses import replace
from pathlib import Path

import pytest

from rasengan_xl.errors import DatasetError
from rasengan_xl.sources.pictures import (
    CaptionedPicture,
    SkippedPicture,
    count_reasons,
    hash_bytes,
)


def picture(content: bytes, *captions: str) -> CaptionedPicture:
    return CaptionedPicture(
        name="a",
        captions=captions,
        picture_digest=hash_bytes(content),
        width=8,
        height=6,
        read=lambda: content,
    )


def test_a_picture_is_known_by_its_bytes_and_its_captions():
    ninja = picture(b"red", "a ninja", "a fox")
    assert ninja.digest == replace(ninja, name="other", class_name="fox").digest
    others = [picture(b"red", "a frog"), picture(b"red", "a ninja"), picture(b"blue", "a ninja")]
    assert len({other.digest for other in (ninja, *others)}) == 4
    assert others[0].picture_digest == ninja.picture_digest != others[2].picture_digest


def test_the_picture_is_read_anew_at_each_load(encode, tmp_path: Path):
    file = tmp_path / "a.png"
    file.write_bytes(encode("red", size=(8, 6)))
    red = replace(picture(b"", "a"), name="a.png", read=file.read_bytes)
    assert red.load().size == (8, 6)
    file.unlink()
    with pytest.raises(DatasetError, match=r"a\.png: not a readable picture .*No such file"):
        red.load()


def test_reasons_are_counted_the_most_frequent_first():
    skipped = [SkippedPicture(name=name, reason=name, detail="") for name in "abb"]
    assert list(count_reasons(skipped).items()) == [("b", 2), ("a", 1)]
