import json

import numpy as np
import pytest
from PIL import Image

from rasengan_xl.generation import sheets
from rasengan_xl.generation.grids import GAP, Grid, draw_grid
from rasengan_xl.generation.requests import Request
from rasengan_xl.generation.sheet import DrawnPicture, next_number
from rasengan_xl.generation.sheets import compose_sheets

COLOURS = ("red", "green", "blue", "navy", "teal", "olive")


def drawn(folder, subjects, requests):
    found = []
    for column, subject in enumerate(subjects):
        for row, request in enumerate(requests):
            file = folder / f"{row:04d}-seed{request.seed}-{column}.png"
            Image.new("RGB", (64, 48), COLOURS[len(found) % 6]).save(file)
            found.append(DrawnPicture(file=file, request=request, subject=subject, row=row))
    return found


def test_a_grid_has_every_picture_in_its_place_and_writes_beside_them():
    cells = [[Image.new("RGB", (64, 48), c) for c in COLOURS[:3]], [None, None, None]]
    sheet = draw_grid(
        Grid(columns=["one", "two", "a long label " * 9], rows=["x", "y"], cells=cells)
    )
    pixels = np.asarray(sheet).astype(int)
    left = sheet.width - 3 * (64 + GAP) - GAP
    for column, cell in enumerate(cells[0]):
        across = left + GAP + column * (64 + GAP)
        (down,) = set(
            np.argwhere((pixels[:, across + 32] == cell.getpixel((0, 0))).all(-1))[:1].flat
        )
        assert np.array_equal(pixels[down : down + 48, across : across + 64], np.asarray(cell))
    assert (pixels[: down - 4, left:].min(), pixels[down:, : left - 4].min()) < (128, 128)


def test_labels_of_any_script_and_length_are_drawn():
    label = "忍者 " * 200 + "x" * 500
    picture = Image.new("RGB", (32, 32))
    sheet = draw_grid(Grid(columns=[label, ""], rows=[label], cells=[[picture, picture]]))
    assert sheet.height < 200


def test_subjects_are_columns_and_requests_rows(tmp_path):
    (sheet,) = compose_sheets(
        drawn(tmp_path, ["base", "mine"], [Request("a", 1), Request("a", 2)]), tmp_path
    )
    assert (
        Image.open(sheet).text["rasengan"]
        == '{"columns": ["base", "mine"], "rows": ["[1] a", "[2] a"]}'
    )


def test_what_one_subject_drew_is_prompts_by_seeds_with_holes(tmp_path):
    requests = [Request("a", 1), Request("a", 2), Request("b", 1)]
    (sheet,) = compose_sheets(drawn(tmp_path, ["base"], requests), tmp_path)
    assert (
        Image.open(sheet).text["rasengan"]
        == '{"columns": ["seed 1", "seed 2"], "rows": ["a", "b"]}'
    )


def test_prompts_that_have_each_their_own_seed_are_a_column(tmp_path):
    requests = [Request(prompt, seed) for seed, prompt in enumerate("abc")]
    (sheet,) = compose_sheets(drawn(tmp_path, ["base"], requests), tmp_path)
    assert (
        Image.open(sheet).text["rasengan"]
        == '{"columns": ["base"], "rows": ["[0] a", "[1] b", "[2] c"]}'
    )


def test_what_was_asked_for_twice_is_shown_twice(tmp_path):
    requests = [Request("a", 1), Request("a", 1), Request("a", 2)]
    (sheet,) = compose_sheets(drawn(tmp_path, ["base"], requests), tmp_path)
    assert json.loads(Image.open(sheet).text["rasengan"])["rows"] == ["[1] a", "[1] a", "[2] a"]


def test_sheets_have_room_for_the_largest_picture(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(sheets, "rows_of_a_sheet", lambda size: asked.append(size) or 32)
    pictures = drawn(tmp_path, ["base"], [Request("a", 1), Request("b", 1)])
    Image.new("RGB", (48, 200)).save(pictures[1].file)
    compose_sheets(pictures, tmp_path)
    assert asked == [(64, 200)]


def test_one_picture_needs_no_sheet_and_many_need_several(tmp_path, monkeypatch):
    assert compose_sheets(drawn(tmp_path, ["base"], [Request("a", 1)]), tmp_path) == []
    monkeypatch.setattr(sheets, "rows_of_a_sheet", lambda _: 2)
    many = drawn(tmp_path, ["base", "mine"], [Request("a", seed) for seed in range(5)])
    made = compose_sheets(many, tmp_path)
    assert [file.name for file in made] == ["0000-grid.png", "0000-grid-2.png", "0000-grid-3.png"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [([], 0), (["0007-seed0-base.png"], 8), (["12345-x.png", "0001-grid.png", "photo.png"], 12346)],
)
def test_numbers_go_on_from_the_highest(tmp_path, names, expected):
    for name in names:
        (tmp_path / name).touch()
    assert next_number(tmp_path) == expected
