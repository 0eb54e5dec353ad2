import base64
import io

import pytest
from PIL import Image

from rasengan_xl.report.pictures import (
    LONGEST_SIDE,
    PIXELATED_BELOW,
    collect_pictures,
    embed_picture,
)
from rasengan_xl.report.reading import read_comparison


def save(folder, size):
    Image.new("RGB", size, "orange").save(folder / "picture.png")
    return embed_picture(folder, "picture.png", "lora")


def decode(cell):
    return Image.open(io.BytesIO(base64.b64decode(cell.uri.partition(",")[2])))


def test_a_small_picture_is_embedded_byte_for_byte_and_shown_with_hard_pixels(tmp_path):
    cell = save(tmp_path, (64, 64))
    content = base64.b64encode((tmp_path / "picture.png").read_bytes()).decode()
    assert cell.uri == f"data:image/png;base64,{content}"
    assert cell.pixelated


def test_a_large_picture_is_embedded_as_webp(tmp_path):
    cell = save(tmp_path, (PIXELATED_BELOW, 128))
    assert cell.uri.startswith("data:image/webp;base64,")
    assert decode(cell).size == (PIXELATED_BELOW, 128)
    assert not cell.pixelated


def test_a_huge_picture_is_made_smaller_and_keeps_its_proportions(tmp_path):
    cell = save(tmp_path, (2 * LONGEST_SIDE, LONGEST_SIDE))
    assert decode(cell).size == (LONGEST_SIDE, LONGEST_SIDE // 2)


def test_transparency_does_not_stop_a_large_picture(tmp_path):
    Image.new("RGBA", (300, 300)).save(tmp_path / "picture.png")
    assert embed_picture(tmp_path, "picture.png", "lora").uri


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n broken"])
def test_a_broken_picture_is_named(tmp_path, content):
    (tmp_path / "picture.png").write_bytes(content)
    cell = embed_picture(tmp_path, "picture.png", "lora")
    assert cell.uri is None
    assert cell.reason == "picture.png is missing or not a picture"


def test_a_picture_cut_short_is_named(tmp_path):
    save(tmp_path, (64, 64))
    content = (tmp_path / "picture.png").read_bytes()
    (tmp_path / "picture.png").write_bytes(content[: len(content) // 2])
    assert embed_picture(tmp_path, "picture.png", "lora").uri is None


def test_the_grid_has_a_column_for_the_base_and_for_every_arm_that_drew(
    make_folder, make_arm, make_failed_arm
):
    folder = make_folder(make_arm("lora"), make_failed_arm("dora"), make_arm("qlora"))
    grid = collect_pictures(read_comparison(folder), folder)
    assert grid.columns == ["base", "lora", "qlora"]
    assert [cell.column for cell in grid.rows[0].cells] == grid.columns
    assert not grid.reencoded


def test_a_row_that_lacks_an_arm_says_so(make_folder, make_arm, make_comparison):
    folder = make_folder(make_arm("lora"), make_arm("dora"))
    comparison = read_comparison(folder)
    (row,) = comparison.pictures
    partial = row.model_copy(update={"arms": {"lora": row.arms["lora"]}})
    comparison = comparison.model_copy(update={"pictures": [row, partial]})
    grid = collect_pictures(comparison, folder)
    assert [cell.reason for cell in grid.rows[1].cells] == [None, None, "not drawn"]


def test_a_grid_of_large_pictures_says_that_they_were_reencoded(make_folder, make_arm):
    folder = make_folder(make_arm("lora"), side=PIXELATED_BELOW)
    assert collect_pictures(read_comparison(folder), folder).reencoded
