import csv
import json
import re
from html import escape, unescape

import pytest

from rasengan_xl.errors import OutputError
from rasengan_xl.report.extras import list_both_bases
from rasengan_xl.report.numbers import write_difference
from rasengan_xl.report.page import write_report
from rasengan_xl.report.svg import COLOURS

from .page_checks import check_page
from .sample import (
    build_arm,
    build_comparison,
    build_failed_run,
    build_measures,
    build_run,
    build_verdict,
    write_folder,
)


def page_of(folder):
    return write_report(folder).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def rich_page(rich_folder):
    return page_of(rich_folder)


def test_the_page_is_written_into_the_folder(folder):
    assert write_report(folder) == folder / "report.html"
    assert not list(folder.rglob("*.part"))


def test_the_page_and_its_tables_are_the_same_each_time(folder):
    first = page_of(folder), {f.name: f.read_text() for f in (folder / "tables").iterdir()}
    assert first == (
        page_of(folder),
        {f.name: f.read_text() for f in (folder / "tables").iterdir()},
    )


def test_the_page_is_whole_and_closed(rich_page):
    check_page(rich_page)


def test_the_parts_stand_in_their_order(rich_page):
    titles = [unescape(title) for title in re.findall(r"<h2[^>]*>([^<]*)</h2>", rich_page)]
    assert titles == [
        "The answer",
        "Pictures",
        "Quality against cost",
        "All figures",
        "Closer looks",
        "Loss",
        "What was equal, what differed",
        "What went wrong or was left out",
        "Repeat it",
    ]


def test_every_picture_is_embedded_once_with_column_seed_and_prompt(rich_page, rich_comparison):
    wall = re.findall(r'class="shot"[^>]*><img src="(data:image/png;base64,[^"]+)"', rich_page)
    drawn = sum(1 + sum(map(len, row.arms.values())) for row in rich_comparison.pictures)
    assert len(wall) == len(set(wall)) == drawn
    prompt = rich_comparison.pictures[0].prompt
    assert f'alt="dora, training seed 1: {prompt} (picture seed 100)"' in rich_page
    assert "seed 2: this run failed" in rich_page


def test_only_the_first_training_seed_is_shown_at_first(rich_page):
    shots = re.findall(r'class="shot"[^>]*data-seed="(\d)"( hidden)?', rich_page)
    assert {(seed, bool(hidden)) for seed, hidden in shots} == {
        ("0", False),
        ("1", True),
        ("2", True),
    }


def test_every_measured_figure_is_on_the_page_and_in_the_tables(rich_page, rich_folder):
    comparison = json.loads((rich_folder / "comparison.json").read_text())
    with (rich_folder / "tables/measures.csv").open(newline="") as text:
        rows = {(row["measure"], row["arm"]): row for row in csv.DictReader(text)}
    for measure in comparison["measures"]:
        for arm, estimate in measure["arms"].items():
            assert f'title="{estimate["value"]!r}"' in rich_page
            row = rows[measure["key"], arm]
            assert float(row["value"]) == estimate["value"]
            assert (int(row["seeds"]), float(row["low"])) == (estimate["seeds"], estimate["low"])


def test_a_table_lies_beside_the_page_for_every_part(rich_page, rich_folder):
    names = {file.stem for file in (rich_folder / "tables").iterdir()}
    for name in ("measures", "verdicts", "runs", "strata", "quantization", "equal_time", "nearest"):
        assert name in names
    named = set(re.findall(r"tables/(\w+)\.csv", rich_page))
    assert named <= names
    assert len(named) > 5


def test_every_chart_has_both_sizes_and_its_numbers(rich_page):
    charts = rich_page.count('<figure class="chart">')
    assert charts == 7
    assert rich_page.count('<svg class="wide"') == rich_page.count('<svg class="narrow"') == charts
    assert rich_page.count("<summary>The numbers") == charts


def test_arms_keep_their_colour_in_every_part(rich_page):
    legends = re.findall(
        r'data-toggle="(\d)"><svg class="mark arm-(\d)".*?</svg>(.*?)</button>', rich_page
    )
    assert {name: (place, colour) for place, colour, name in legends} == {
        "lora": ("0", "0"),
        "qlora-normal": ("1", "1"),
        "qlora-aggressive": ("2", "2"),
        "dora": ("3", "3"),
    }


def test_verdicts_proof_failure_and_command_are_shown(rich_page, rich_comparison):
    for text in (
        "no detectable difference",
        "✓ all 3 agree",
        "dora, seed 2: failed.",
        "facebook/dinov2-base is not on this machine",
        "energy was not measured",
        "41.2 TFLOP/s",
        rich_comparison.command,
        "✓ chosen",
        "0.940",
    ):
        assert escape(text) in rich_page


def test_a_picture_that_is_missing_is_named(folder):
    (folder / "pictures/dora-0.png").unlink()
    assert "pictures/dora-0.png is missing or not a picture" in page_of(folder)


def test_one_seed_is_said_to_prove_nothing(tmp_path):
    arms = [build_arm(name, [build_run(name)]) for name in ("lora", "dora")]
    verdicts = [build_verdict("lora", "dora", 0.01, outcome="not judged", p_value=None, seeds=1)]
    page = page_of(write_folder(tmp_path / "one", build_comparison(*arms, verdicts=verdicts), 8))
    check_page(page)
    assert "One training seed cannot tell a method from its luck" in page
    assert "No pair of arms is judged" in page
    assert 'class="figures verdicts' not in page
    assert 'class="seeds"' not in page


def test_a_running_comparison_has_a_page(tmp_path):
    missing = build_run("dora", status="missing", summary=None, seconds=None, checkpoints=[])
    comparison = build_comparison(
        build_arm("lora", [build_run("lora")]),
        build_arm("dora", [missing]),
        status="running",
        measures=[],
        verdicts=[],
        primary=None,
    )
    page = page_of(write_folder(tmp_path / "running", comparison, 8))
    check_page(page)
    assert "still running: 1 of 2 runs have finished" in page
    assert "Nothing has been measured yet." in page


@pytest.mark.parametrize("arms", [0, 1])
def test_a_comparison_of_failures_only_has_a_page(tmp_path, arms):
    failed = [build_arm("dora", [build_failed_run("dora", 0)])][:arms]
    comparison = build_comparison(*failed, pictures=[], dataset=None, machine=None, measures=[])
    page = page_of(write_folder(tmp_path / "failed", comparison, 8))
    check_page(page)
    assert "No run came to its end" in page
    assert page.count("Not recorded: no run came far enough.") == 3


def test_arms_without_any_size_have_no_table_of_sizes(tmp_path):
    bare = {"trainable_parameters": None, "adapter_bytes": None, "flops_per_step": None}
    failed = build_arm("dora", [build_failed_run("dora", 0)], **bare)
    page = page_of(write_folder(tmp_path / "failed", build_comparison(failed, pictures=[]), 8))
    assert "<h3>Sizes</h3>" not in page
    assert "The first to fail, dora with seed 0: out of memory at step 9." in page


def test_notes_alone_are_not_called_wrong(folder):
    page = page_of(folder)
    assert 'id="incidents-title">Notes<' in page
    assert '<a href="#incidents">Notes</a>' in page


def test_the_answer_ends_each_sentence(folder):
    comparison = json.loads((folder / "comparison.json").read_text())
    comparison["measures"][0]["note"] = "a note without a full stop"
    (folder / "comparison.json").write_text(json.dumps(comparison))
    assert "a note without a full stop. Arms are called" in page_of(folder)


def test_pictures_and_runs_outside_the_folder_are_not_read(folder):
    secret = folder.parent / "secret"
    secret.mkdir()
    (folder / "pictures/dora-0.png").rename(secret / "picture.png")
    (secret / "steps.jsonl").write_text('{"step": 1, "loss": 7.25}\n')
    comparison = json.loads((folder / "comparison.json").read_text())
    comparison["pictures"][0]["arms"]["dora"]["0"] = "../secret/picture.png"
    comparison["arms"][0]["runs"][0]["run"] = str(secret)
    (folder / "comparison.json").write_text(json.dumps(comparison))
    page = page_of(folder)
    assert "../secret/picture.png is not within the comparison&#39;s folder" in page
    assert "lora, seed 0: losses not read." in page
    assert "7.25" not in (folder / "tables/training_loss.csv").read_text()


def test_losses_behind_a_link_to_elsewhere_are_not_read(folder):
    secret = folder.parent / "secret.jsonl"
    secret.write_text('{"step": 1, "loss": 7.25}\n')
    steps = folder / "arms/lora/seed-0/steps.jsonl"
    steps.unlink()
    steps.symlink_to(secret)
    assert "lora, seed 0: losses not read." in page_of(folder)
    assert "7.25" not in (folder / "tables/training_loss.csv").read_text()


def test_the_table_of_both_bases_and_its_file_go_one_way(rich_page, rich_folder, rich_comparison):
    with (rich_folder / "tables/quantization.csv").open(newline="") as text:
        rows = {row["arm"]: float(row["difference"]) for row in csv.DictReader(text)}
    shown = list_both_bases(rich_comparison)
    assert list(rows) == ["base", *(row.name for row in shown[1:])]
    for row, value in zip(shown, rows.values(), strict=True):
        assert row.difference == write_difference(value, reach=0.0005)
        assert row.difference in rich_page
    for name, value in rows.items():
        quantized, full = csv_losses(rich_folder, name)
        assert value == pytest.approx(full - quantized)


def csv_losses(folder, arm):
    with (folder / "tables/quantization.csv").open(newline="") as text:
        (row,) = [row for row in csv.DictReader(text) if row["arm"] == arm]
    return float(row["on_quantized"]), float(row["on_full"])


def test_tables_of_an_earlier_page_that_hold_nothing_now_are_removed(folder):
    write_report(folder)
    assert (folder / "tables/measures.csv").exists()
    arms = [build_arm("lora"), build_arm("dora")]
    bare = build_comparison(*arms, measures=[], verdicts=[], primary=None)
    bare.write(folder / "comparison.json")
    write_report(folder)
    assert not (folder / "tables/measures.csv").exists()


def test_nothing_in_the_numbers_becomes_markup(folder):
    hostile = "</script><img src=x onerror=alert(1)>\"'&{{ 7*7 }}"
    run = build_run("lora", attempts=2)
    arm = build_arm(
        "lora", [run], settings={"dataset": {"source": hostile}}, differs={"a": hostile}
    )
    failed = build_arm("dora", [build_failed_run("dora", 0, reason=hostile)])
    measures = [
        measure.model_copy(update={"label": hostile, "note": hostile})
        for measure in build_measures(("lora",))
    ]
    comparison = build_comparison(
        arm,
        failed,
        prompt=hostile,
        name=hostile,
        base_model=hostile,
        command=hostile,
        measures=measures,
        notes=[hostile],
        varies=[hostile],
    )
    comparison.write(folder / "comparison.json")
    page = page_of(folder)
    assert page.count("<script") == 1
    assert "<img src=x" not in page
    assert "{{ 7*7 }}" in page
    check_page(page)


def test_more_arms_than_colours_share_them(tmp_path):
    arms = [build_arm(f"rank-{rank}", [build_run(f"rank-{rank}")]) for rank in range(COLOURS + 2)]
    page = page_of(write_folder(tmp_path / "many", build_comparison(*arms), 8))
    check_page(page)
    assert f"rank-{COLOURS + 1}" in page
    assert f"arm-{COLOURS}" not in page


def test_a_folder_without_a_comparison_is_refused(tmp_path):
    with pytest.raises(OutputError, match=r"comparison\.json: not found; .*rasengan compare"):
        write_report(tmp_path)


def test_a_refused_folder_gets_no_page(tmp_path):
    (tmp_path / "comparison.json").write_text("{}", encoding="utf-8")
    with pytest.raises(OutputError):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()
