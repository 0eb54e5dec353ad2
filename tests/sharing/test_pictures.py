import json

import pytest
from PIL import Image

from rasengan_xl.errors import OutputError
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.sharing.pictures import Asked, CardPicture, keep_samples, read_samples
from rasengan_xl.sharing.samples import spread


def test_pictures_that_lie_elsewhere_are_copied_with_what_was_asked(run: RunFolder, tmp_path):
    for colour in ("red", "blue"):
        Image.new("RGB", (8, 8), colour).save(tmp_path / f"{colour}.png")
    picture = CardPicture(
        asked=Asked(prompt="a ninja", seed=5, guidance=4.0),
        base=tmp_path / "red.png",
        adapted=tmp_path / "blue.png",
        is_caption=True,
    )
    (kept,) = keep_samples(run, [picture])
    assert kept.adapted == run.samples_folder / "000-seed5-adapted.png"
    assert Image.open(kept.base).getpixel((0, 0)) == (255, 0, 0)
    assert read_samples(run) == (kept,)


def test_samples_are_read_by_name_with_what_they_say_of_themselves(run: RunFolder, add_sample):
    add_sample(run, 2, "two")
    add_sample(run, 1, "one")
    Image.new("RGB", (8, 8)).save(run.samples_folder / "003-seed3-pair.png")
    assert [picture.asked.prompt for picture in read_samples(run)] == ["one", "two"]
    assert not read_samples(run)[0].is_caption
    (run.samples_folder / "captions.json").write_text(json.dumps(["one"]))
    assert read_samples(run)[0].is_caption
    (run.samples_folder / "captions.json").write_text("no")
    with pytest.raises(OutputError, match=r"captions\.json"):
        read_samples(run)


def test_a_sample_without_its_base_or_that_is_no_picture_is_one_line(run: RunFolder, add_sample):
    add_sample(run, 1)
    (run.samples_folder / "001-seed1-adapted.png").write_bytes(b"no picture")
    with pytest.raises(OutputError, match="cannot be read as a picture"):
        read_samples(run)
    add_sample(run, 1)
    (run.samples_folder / "001-seed1-base.png").unlink()
    with pytest.raises(OutputError, match="is missing beside it"):
        read_samples(run)


def test_captions_are_taken_from_all_over_the_held_out_ones():
    assert spread(list("abcdef"), 2) == ["a", "d"]
    assert spread(list("ab"), 5) == ["a", "b"]
    assert spread([], 2) == []
