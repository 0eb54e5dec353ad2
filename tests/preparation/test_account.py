import json
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rasengan_xl.config.dataset_settings import CaptionSettings, DatasetSettings
from rasengan_xl.dataset.plan import PicturePlan, Planned, plan_pictures
from rasengan_xl.errors import OutputError
from rasengan_xl.preparation.account import Account, take_account
from rasengan_xl.preparation.files import write_account
from rasengan_xl.preparation.long_captions import MOST_CUT_OFF_KEPT, measure_captions
from rasengan_xl.preparation.records import BucketCount, LookAlike
from rasengan_xl.sdxl.components import load_tokenizers
from rasengan_xl.sdxl.model_folder import TOKENIZERS, find_model
from rasengan_xl.sdxl.prompts import count_tokens, find_cut_off
from rasengan_xl.sources.pictures import CaptionedPicture, SkippedPicture, Source, hash_bytes

from ..exhaust import exhaust

LOOKS = [bytes(np.random.default_rng(number).bytes(32)) for number in range(20)]


def colour(number: int) -> tuple[int, int, int]:
    return (12 * number, 255 - 12 * number, 100)


def picture(number: int, size: tuple[int, int] = (32, 32), **changes: object) -> CaptionedPicture:
    file = BytesIO()
    Image.new("RGB", size, colour(number)).save(file, "PNG")
    made = CaptionedPicture(
        name=f"{number}.png",
        captions=(f"picture {number}",),
        picture_digest=hash_bytes(f"{number}".encode()),
        width=size[0],
        height=size[1],
        look=LOOKS[number],
        read=partial(bytes, file.getvalue()),
    )
    return replace(made, **changes)


def plan(*pictures: CaptionedPicture) -> tuple[Source, PicturePlan]:
    broken = SkippedPicture(name="bad.png", reason="unreadable picture", detail="cut short")
    source = Source(
        name="pics", revision=None, pictures=pictures, skipped=(broken,), ignored={".zip files": 3}
    )
    settings = DatasetSettings(resolution=32, bucket_multiple=8)
    return source, plan_pictures(source, settings, CaptionSettings(), 0)


def account(*pictures: CaptionedPicture, held_out: tuple[int, ...] = ()) -> Account:
    source, planned = plan(*pictures)
    return take_account(source, planned, _pick(planned, held_out), ())


def _pick(planned: PicturePlan, rows: tuple[int, ...]) -> Planned:
    return tuple(planned.used[row] for row in rows)


def write(folder: Path, *pictures: CaptionedPicture) -> list[str]:
    """Write an account and return the names of its contact sheets."""
    source, planned = plan(*pictures)
    taken = take_account(source, planned, planned.used[:1], ())
    work = write_account(folder, taken, planned, "white")
    return [sheet.name for sheet in exhaust(work).sheets]


def test_every_picture_is_counted_once():
    summary = account(
        picture(0),
        picture(1, (64, 32), animated=True),
        picture(2, (16, 16), notes=("odd",)),
        picture(3, (2, 2)),
        held_out=(1,),
    ).summary
    assert (summary.found, summary.used, summary.skipped) == (5, 3, 2)
    assert (summary.trained, summary.held_out) == (2, 1)
    assert summary.skipped_by_reason == {"unreadable picture": 1, "too small": 1}
    assert summary.skipped_examples["unreadable picture"] == "bad.png: cut short"
    assert summary.skipped_examples["too small"].startswith("3.png: 2 x 2 px")
    assert summary.ignored_files == {".zip files": 3}
    assert (summary.upscaled, summary.animated, summary.notes) == (1, 1, {"odd": 1})
    assert summary.buckets == {
        "32x32": BucketCount(trained=2, held_out=0),
        "40x24": BucketCount(trained=0, held_out=1),
    }


def test_a_record_tells_what_becomes_of_its_picture():
    first, second, third = account(picture(0, (20, 13)), picture(3, (2, 2)), held_out=(0,)).pictures
    assert (first.number, first.outcome, first.bucket) == (1, "held out", "40x24")
    assert first.upscaled_by == pytest.approx(2.0)
    (crop,) = first.crops
    assert (crop.resized_width, crop.resized_height, crop.left, crop.top) == (40, 26, 0, 1)
    assert (second.name, second.outcome, second.reason) == (
        "bad.png",
        "skipped",
        "unreadable picture",
    )
    assert (third.name, third.reason) == ("3.png", "too small")
    assert third.detail is not None
    assert "2 x 2 px would be enlarged 16.0 times" in third.detail


def test_copies_and_look_alikes_are_told_apart():
    taken = account(
        picture(0),
        picture(1),
        picture(2, picture_digest=hash_bytes(b"0"), look=LOOKS[0]),
        picture(3, look=LOOKS[0]),
    )
    assert [record.copy_of for record in taken.pictures[:4]] == [None, None, 1, None]
    assert [record.looks_like for record in taken.pictures[:4]] == [None, None, None, 1]
    assert (taken.summary.copies, taken.summary.alike) == (1, 1)


def test_a_held_out_picture_that_looks_like_a_trained_one_is_named():
    pictures = picture(0), picture(1, look=LOOKS[0]), picture(2), picture(3, look=LOOKS[2])
    summary = account(*pictures, held_out=(0, 2, 3)).summary
    assert summary.held_out_alike == 1
    assert summary.held_out_alike_examples == (LookAlike(held_out="0.png", trained="1.png"),)
    assert account(*pictures, held_out=(2, 3)).summary.held_out_alike == 0


def test_captions_over_the_limit_are_counted_with_what_is_cut_off(tiny_model: Path):
    words = "a ninja with red hair " * 30
    _, planned = plan(picture(0), picture(1, captions=(words.strip(), "short")))
    tokenizers = load_tokenizers(find_model(str(tiny_model), None))
    all_measured = measure_captions(planned.used, tokenizers, TOKENIZERS)
    for measured, tokenizer, name in zip(all_measured, tokenizers, TOKENIZERS, strict=True):
        assert (measured.tokenizer, measured.limit) == (name, 77)
        assert (measured.count, measured.wordings) == (1, 3)
        (example,) = measured.examples
        assert (example.name, example.tokens) == ("1.png", measured.longest)
        read = words.strip().removesuffix(example.cut_off)
        assert count_tokens([read], tokenizer) == [77]
    assert find_cut_off("short", tokenizers[0]) == ""


def test_of_a_book_only_the_beginning_of_what_is_cut_off_is_kept(tiny_model: Path):
    book = plan(picture(0, captions=("ninja " * 10_000,)))[1].used
    tokenizers = load_tokenizers(find_model(str(tiny_model)))
    for measured in measure_captions(book, tokenizers, ("one", "two")):
        assert len(measured.examples[0].cut_off) == MOST_CUT_OFF_KEPT


def test_the_account_is_a_line_for_each_picture(tmp_path: Path):
    write(tmp_path / "out", picture(0), picture(1), picture(2, name="n\udcff.png"))
    lines = (tmp_path / "out" / "pictures.jsonl").read_text(encoding="utf-8").splitlines()
    names = [json.loads(line)["name"] for line in lines]
    assert names == ["0.png", "1.png", "n\\udcff.png", "bad.png"]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["found"] == 4


def test_a_contact_sheet_shows_the_crops_of_its_size(tmp_path: Path):
    wide, square = picture(4, (64, 32)), picture(9)
    assert write(tmp_path, wide, square, picture(14)) == ["32x32.png", "40x24.png"]
    sheet = np.asarray(Image.open(tmp_path / "sheets" / "32x32.png")).reshape(-1, 3)
    for number, there in ((9, True), (14, True), (4, False)):
        assert (np.abs(sheet.astype(int) - colour(number)).max(axis=1) == 0).any() == there


def test_a_later_account_takes_the_place_of_an_earlier_one(tmp_path: Path):
    write(tmp_path, picture(0), picture(1, (64, 32)))
    own = tmp_path / "sheets" / "mine.png"
    own.write_bytes(b"kept")
    write(tmp_path, picture(0))
    assert {file.name for file in (tmp_path / "sheets").iterdir()} == {"32x32.png", "mine.png"}


def test_many_pictures_fill_several_numbered_sheets(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("rasengan_xl.preparation.files.PICTURES_PER_SHEET", 4)
    pictures = [picture(0, name=f"{number}.png") for number in range(10)]
    assert write(tmp_path, *pictures) == [f"32x32-{number}-of-3.png" for number in (1, 2, 3)]
    monkeypatch.setattr("rasengan_xl.preparation.files.MOST_SHOWN", 8)
    seen: list[str] = []
    monkeypatch.setattr(
        "rasengan_xl.preparation.files.draw_sheet",
        lambda tiles, bucket, title, subtitle: seen.append(subtitle) or Image.new("RGB", (1, 1)),
    )
    assert write(tmp_path, *pictures) == ["32x32-1-of-2.png", "32x32-2-of-2.png"]
    assert all("8 of 10 shown" in subtitle for subtitle in seen)


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path):
    (tmp_path / "summary.json").write_text("of a run")
    with pytest.raises(OutputError, match="already holds something else"):
        write(tmp_path, picture(0))
    with pytest.raises(OutputError, match="is a file"):
        write(tmp_path / "summary.json", picture(0))
    assert (tmp_path / "summary.json").read_text() == "of a run"


def test_an_account_that_was_killed_while_it_was_written_is_taken_again(tmp_path: Path):
    (tmp_path / "pictures.jsonl.17.part").write_text('{"number":1')
    assert write(tmp_path, picture(0)) == ["32x32.png"]


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OutputError, match="cannot be written: No space left on device; free"):
        write(tmp_path / "out", picture(0))
