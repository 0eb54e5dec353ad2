import base64
import io

import pytest
from PIL import Image

from rasengan_xl.report.pictures import (
    LONGEST_SIDE,
    LONGEST_SIDE_OF_MANY,
    PIXELATED_BELOW,
    collect_nearest,
    collect_wall,
    embed_picture,
)

from .sample import ARMS, build_arm, build_comparison, build_failed_run, build_run, write_folder


def save(folder, size):
    Image.new("RGB", size, "orange").save(folder / "picture.png")
    return embed_picture(folder, "picture.png", 1)


def decode(picture):
    return Image.open(io.BytesIO(base64.b64decode(picture.uri.partition(",")[2])))


def test_a_small_picture_is_embedded_byte_for_byte_and_shown_with_hard_pixels(tmp_path):
    picture = save(tmp_path, (64, 64))
    content = base64.b64encode((tmp_path / "picture.png").read_bytes()).decode()
    assert picture.uri == f"data:image/png;base64,{content}"
    assert picture.pixelated
    assert picture.seed == 1


def test_a_large_picture_is_embedded_as_webp(tmp_path):
    picture = save(tmp_path, (PIXELATED_BELOW, 128))
    assert picture.uri.startswith("data:image/webp;base64,")
    assert decode(picture).size == (PIXELATED_BELOW, 128)
    assert picture.reencoded
    assert not picture.pixelated


def test_a_huge_picture_is_made_smaller_and_keeps_its_proportions(tmp_path):
    picture = save(tmp_path, (2 * LONGEST_SIDE, LONGEST_SIDE))
    assert decode(picture).size == (LONGEST_SIDE, LONGEST_SIDE // 2)


def test_transparency_does_not_stop_a_large_picture(tmp_path):
    Image.new("RGBA", (300, 300)).save(tmp_path / "picture.png")
    assert embed_picture(tmp_path, "picture.png").uri


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n broken"])
def test_a_broken_picture_is_named(tmp_path, content):
    (tmp_path / "picture.png").write_bytes(content)
    picture = embed_picture(tmp_path, "picture.png")
    assert picture.uri is None
    assert picture.reason == "picture.png is missing or not a picture"


def test_a_picture_cut_short_is_named(tmp_path):
    save(tmp_path, (64, 64))
    content = (tmp_path / "picture.png").read_bytes()
    (tmp_path / "picture.png").write_bytes(content[: len(content) // 2])
    assert embed_picture(tmp_path, "picture.png").uri is None


def test_the_wall_has_a_column_for_the_base_and_every_arm_and_a_picture_for_each_seed(
    rich_comparison, rich_folder
):
    wall = collect_wall(rich_comparison, rich_folder)
    assert wall.columns == ["base", *ARMS]
    assert wall.seeds == [0, 1, 2]
    cells = wall.rows[0].cells
    assert [picture.seed for picture in cells["base"]] == [None]
    assert [picture.seed for picture in cells["lora"]] == [0, 1, 2]
    assert cells["dora"][2].reason == "seed 2: this run failed"
    assert not wall.reencoded


def test_an_arm_that_drew_nothing_has_no_column(tmp_path):
    arms = [build_arm("lora"), build_arm("dora", [build_failed_run("dora", 0)])]
    comparison = build_comparison(*arms)
    folder = write_folder(tmp_path / "sample", comparison, 8)
    assert collect_wall(comparison, folder).columns == ["base", "lora"]


def test_a_run_that_is_still_to_come_says_so(tmp_path):
    runs = [build_run("dora"), build_run("dora", 1, status="missing", summary=None)]
    comparison = build_comparison(build_arm("lora"), build_arm("dora", runs))
    folder = write_folder(tmp_path / "sample", comparison, 8)
    cell = collect_wall(comparison, folder).rows[0].cells["dora"]
    assert cell[1].reason == "seed 1: not trained yet"


def test_many_large_pictures_are_embedded_smaller(tmp_path, monkeypatch):
    monkeypatch.setattr("rasengan_xl.report.pictures.MANY", 4)
    comparison = build_comparison(build_arm("lora", [build_run("lora")]))
    (row,) = comparison.pictures
    few = comparison.model_copy(update={"pictures": [row]})
    many = comparison.model_copy(update={"pictures": [row] * 3})
    folder = write_folder(tmp_path / "sample", few, LONGEST_SIDE)
    assert collect_wall(few, folder).rows[0].cells["lora"][0].width == LONGEST_SIDE
    assert decode(collect_wall(many, folder).rows[0].cells["lora"][0]).width == LONGEST_SIDE_OF_MANY


def test_the_most_alike_pair_stands_first(rich_comparison, rich_folder):
    pairs = collect_nearest(rich_comparison, rich_folder)
    similarities = [pair.facts.similarity for pair in pairs]
    assert similarities == sorted(similarities, reverse=True)
    assert all(pair.drawn.uri and pair.training.uri for pair in pairs)
