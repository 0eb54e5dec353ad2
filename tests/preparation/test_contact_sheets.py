from PIL import Image

from rasengan_xl.dataset.buckets import Bucket
from rasengan_xl.preparation.contact_sheets import (
    SHEET_COLUMNS_WIDTH,
    Chip,
    Tile,
    draw_sheet,
    shrink,
)

TALL = Bucket(128, 64)


def tile(number: int, name: str = "a.png", *chips: Chip, bucket: Bucket = TALL) -> Tile:
    image = shrink(Image.new("RGB", (bucket.width, bucket.height), "red"), bucket)
    return Tile(image=image, number=number, name=name, chips=chips)


def test_thumbnails_keep_the_shape_and_have_one_area():
    for bucket in (TALL, Bucket(1024, 1024), Bucket(512, 2048)):
        image = tile(1, bucket=bucket).image
        assert abs(image.width / image.height / (bucket.width / bucket.height) - 1) < 0.02
        assert abs(image.width * image.height / 160**2 - 1) < 0.02


def test_a_sheet_is_as_high_as_its_rows_and_never_too_wide():
    one = draw_sheet([tile(1)], TALL, "title", "subtitle")
    many = draw_sheet([tile(number) for number in range(60)], TALL, "title", "subtitle")
    assert one.height < many.height
    assert one.width < many.width <= SHEET_COLUMNS_WIDTH + 80


def test_marks_that_do_not_fit_beside_one_another_go_below():
    chips = tuple(Chip(f"mark number {number}", "blue") for number in range(4))
    plain = draw_sheet([tile(1)], TALL, "title", "subtitle")
    marked = draw_sheet([tile(1, "a.png", *chips)], TALL, "title", "subtitle")
    assert marked.height >= plain.height + 4 * 20


def test_any_name_can_be_written():
    names = ["", "x" * 500, "line\nbreak\t.png", "😀 שלום ナルト.png", "\u202e reversed", "\0"]
    sheet = draw_sheet([tile(n, name) for n, name in enumerate(names)], TALL, "title", "subtitle")
    plain = draw_sheet([tile(n) for n in range(len(names))], TALL, "title", "subtitle")
    assert sheet.size == plain.size
