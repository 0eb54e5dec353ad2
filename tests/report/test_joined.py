import csv

import pytest

from rasengan_xl.errors import OutputError
from rasengan_xl.report.joined import name_apart, share_measures, write_joined_report

from .page_checks import check_page
from .sample import build_arm, build_comparison, build_measures, write_folder


@pytest.fixture
def two(tmp_path):
    first = build_comparison(build_arm("lora"), build_arm("dora"), name="first")
    second = build_comparison(
        build_arm("lora"), name="second", measures=build_measures(("lora",))[:2], verdicts=[]
    )
    return [write_folder(tmp_path / c.name, c, 8) for c in (first, second)]


def test_the_joined_page_is_whole_and_has_every_comparison(two, tmp_path):
    file = write_joined_report(two, tmp_path / "joined")
    assert file == tmp_path / "joined/report.html"
    page = file.read_text(encoding="utf-8")
    check_page(page)
    assert page.count('class="wall"') == page.count('class="card"') == 2
    assert "not paired, and no verdict is given between them" in page


def test_only_shared_measures_are_joined_and_the_others_are_named(two, tmp_path):
    page = write_joined_report(two, tmp_path / "joined").read_text(encoding="utf-8")
    assert "Peak memory (first)" in page
    with (tmp_path / "joined/tables/measures.csv").open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert {row["measure"] for row in rows} == {"held_out_loss", "style_distance"}
    assert {row["comparison"] for row in rows} == {"first", "second"}


def test_a_measure_that_means_something_else_is_not_joined():
    first = build_comparison(build_arm("lora"))
    measures = [m.model_copy(update={"unit": "MB"}) for m in build_measures(("lora",))[:1]]
    assert share_measures([first, build_comparison(build_arm("lora"), measures=measures)]) == []
    assert len(share_measures([first, first])) == len(first.measures)


def test_comparisons_of_one_name_are_told_apart_by_their_folders(tmp_path):
    same = build_comparison(build_arm("lora"))
    assert name_apart([same, same], [tmp_path / "a", tmp_path / "b"]) == [
        "sample (a)",
        "sample (b)",
    ]


def test_folders_of_one_name_are_told_apart_by_those_they_lie_in(tmp_path):
    same = build_comparison(build_arm("lora"))
    folders = [tmp_path / end for end in ("a/run", "b/run", "b/run", "other")]
    assert name_apart([same] * 4, folders) == [
        "sample (a/run)",
        "sample (b/run)",
        "sample (b/run), 2",
        "sample (other)",
    ]


def test_the_page_of_a_comparison_is_not_overwritten(two):
    with pytest.raises(OutputError, match="choose another --out"):
        write_joined_report(two, two[0])


def test_a_file_is_not_overwritten(two, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file"):
        write_joined_report(two, tmp_path / "file")


def test_a_folder_without_a_comparison_is_refused_before_anything_is_written(two, tmp_path):
    with pytest.raises(OutputError, match="not found"):
        write_joined_report([*two, tmp_path], tmp_path / "joined")
    assert not (tmp_path / "joined").exists()
