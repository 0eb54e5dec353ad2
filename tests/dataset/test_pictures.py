from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from rasengan_xl.dataset.pictures import Candidate, CaptionedPicture, take_pictures
from rasengan_xl.errors import DatasetError


def candidate(name: str, caption: str | None, content: bytes) -> Candidate:
    return Candidate(
        name=name, caption=caption, caption_remedy="write one", read=partial(bytes, content)
    )


def take_one(caption: str, content: bytes) -> CaptionedPicture:
    (picture,) = take_pictures([candidate("a", caption, content)], "pics")
    return picture


def test_a_picture_is_known_by_its_bytes_and_its_caption(encode):
    picture = take_one("a ninja", encode("red"))
    assert picture.digest == replace(picture, name="other").digest
    other_words = take_one("a frog", encode("red"))
    assert other_words.picture_digest == picture.picture_digest
    assert other_words.digest != picture.digest
    other_bytes = take_one("a ninja", encode("blue"))
    assert other_bytes.picture_digest != picture.picture_digest
    assert other_bytes.digest != picture.digest


def test_white_space_in_captions_is_evened_out(encode):
    assert take_one(" a ninja,\r\n  running\t", encode("red")).caption == "a ninja, running"


def test_the_picture_is_read_anew_at_each_load(encode, tmp_path: Path):
    file = tmp_path / "a.png"
    file.write_bytes(encode("red", size=(8, 6)))
    (picture,) = take_pictures(
        [Candidate(name="a.png", caption="a", caption_remedy="", read=file.read_bytes)], "pics"
    )
    assert picture.load().size == (8, 6)
    file.unlink()
    with pytest.raises(DatasetError, match=r"a\.png: not a readable picture .*No such file"):
        picture.load()


def test_the_first_fault_is_named_and_the_others_are_counted(encode):
    red = encode("red")
    with pytest.raises(DatasetError, match=r"pics: b: no caption: write one$"):
        take_pictures([candidate("a", "x", red), candidate("b", " \n", red)], "pics")
    faulty = [candidate("a", "x", b"no"), candidate("b", None, red), candidate("c", "x", b"")]
    with pytest.raises(DatasetError, match=r"pics: a: not a readable .* \(and 2 more"):
        take_pictures(faulty, "pics")


def test_an_empty_dataset_is_refused():
    with pytest.raises(DatasetError, match="pics: the dataset is empty"):
        take_pictures([], "pics")
