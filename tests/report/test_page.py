import re
from html import escape
from html.parser import HTMLParser

import pytest

from rasengan_xl.errors import OutputError
from rasengan_xl.report.numbers import write_n
from rasengan_xl.report.page import COLOURS, write_report

VOID = {"meta", "link", "img", "input"}


def page_of(folder):
    return write_report(folder).read_text(encoding="utf-8")


def test_the_page_is_written_into_the_folder(folder):
    assert write_report(folder) == folder / "report.html"
    assert not list(folder.glob("*.part"))


def test_the_page_is_the_same_each_time(folder):
    assert page_of(folder) == page_of(folder)


def test_the_page_asks_the_network_for_nothing(folder):
    page = page_of(folder)
    assert "http://" not in page
    assert "https://" not in page
    assert "@import" not in page
    assert "url(" not in page
    sources = re.findall(r'\b(?:src|href|srcset)="([^"]*)"', page)
    assert all(source.startswith(("data:", "#")) for source in sources)


def test_only_the_page_s_own_script_may_run(folder):
    page = page_of(folder)
    assert page.count("<script>") == 1
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/=]+'", page)
    assert not re.search(r"\son[a-z]+=", page)


def test_every_element_is_closed_in_order(folder):
    open_elements = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in VOID:
                open_elements.append(tag)

        def handle_startendtag(self, tag, attrs):
            pass

        def handle_endtag(self, tag):
            assert open_elements.pop() == tag

    Checker().feed(page_of(folder))
    assert open_elements == []


def test_every_picture_is_embedded_once_with_its_prompt_and_seed(folder):
    page = page_of(folder)
    pictures = re.findall(r'<img src="(data:image/png;base64,[^"]+)"', page)
    assert len(pictures) == len(set(pictures)) == 3
    for column in ("base", "lora", "dora"):
        assert f'alt="{column}: a ninja at night (seed 100)"' in page


def test_a_picture_that_is_missing_is_named(folder):
    (folder / "pictures/dora.png").unlink()
    assert "pictures/dora.png is missing or not a picture" in page_of(folder)


def test_a_failed_arm_is_shown_with_its_reason(make_folder, make_arm, make_failed_arm):
    page = page_of(make_folder(make_arm("lora"), make_failed_arm("dora")))
    assert "dora failed." in page
    assert "out of memory at step 9" in page
    assert "dora failed and drew none." in page


def test_a_failed_arm_without_a_reason_says_so(make_folder, make_arm, make_failed_arm):
    page = page_of(make_folder(make_arm("lora"), make_failed_arm("dora", reason=None)))
    assert "No reason was recorded." in page


def test_a_failed_arm_needs_no_folder(make_folder, make_arm, make_failed_arm):
    folder = make_folder(make_arm("lora"), make_failed_arm("dora"))
    (folder / "arms/dora/steps.jsonl").unlink()
    (folder / "arms/dora").rmdir()
    assert "dora: no steps were recorded" in page_of(folder)


def test_a_comparison_whose_only_arm_failed_still_has_a_page(make_folder, make_failed_arm):
    assert "dora failed." in page_of(make_folder(make_failed_arm("dora")))


def test_a_comparison_whose_arms_failed_at_once_lacks_dataset_and_machine(
    folder, make_comparison, make_failed_arm
):
    comparison = make_comparison(make_failed_arm())
    comparison = comparison.model_copy(update={"dataset": None, "machine": None})
    comparison.write(folder / "comparison.json")
    page = page_of(folder)
    assert "none came far enough to say on which pictures" in page
    assert page.count("Not recorded: no arm came far enough.") == 3


def test_a_comparison_without_arms_still_has_a_page(make_folder):
    assert "0 ways of fine-tuning" in page_of(make_folder())


def test_a_comparison_without_pictures_says_so(folder, make_comparison, make_arm):
    comparison = make_comparison(make_arm()).model_copy(update={"pictures": []})
    comparison.write(folder / "comparison.json")
    page = page_of(folder)
    assert "No pictures were drawn." in page
    assert 'id="slider"' not in page


def test_hostile_text_is_escaped_wherever_it_stands(folder, make_comparison, make_arm):
    hostile = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
    arm = make_arm(
        "lora",
        name=hostile,
        settings={hostile: {hostile: hostile}},
        differs={hostile: hostile},
        trace_hash=hostile,
        run="arms/lora",
    )
    failed = make_arm("dora", status="failed", reason=hostile)
    comparison = make_comparison(arm, failed, prompt=hostile)
    comparison = comparison.model_copy(update={"name": hostile, "base_model": hostile})
    comparison.write(folder / "comparison.json")
    page = page_of(folder)
    assert page.count("<script") == 1
    assert "<img src=x" not in page
    assert escape(hostile)[:20] in page


def test_more_arms_than_colours_share_them(make_folder, make_arm):
    arms = [make_arm(f"rank-{rank}") for rank in range(COLOURS + 2)]
    page = page_of(make_folder(*arms))
    assert f"rank-{COLOURS + 1}" in page
    assert f'class="line arm-{COLOURS}"' not in page


def test_every_figure_of_the_table_is_on_the_page_with_its_n(folder):
    page = page_of(folder)
    for figure in ("23.2 M", "92.9 MB", "10.31 GiB", "11.84 GiB", "0.138 s", "0.1118"):
        assert f">{figure}" in page
    for n in (290, 31, 256):
        assert write_n(n) in page


def test_the_table_says_what_the_figures_are_worth(folder):
    page = page_of(folder)
    assert "with one seed" in page
    assert "All 2 trace hashes are equal" in page


def test_settings_machine_and_dataset_are_shown(folder):
    page = page_of(folder)
    for fact in (
        "Tesla T4",
        "2.13.0",
        "1,157",
        "2 unreadable",
        "ab12" * 16,
        "Sampler steps 30",
        "sampler_steps",
    ):
        assert escape(fact) in page


def test_a_folder_without_a_comparison_is_refused(tmp_path):
    with pytest.raises(OutputError, match=r"comparison\.json: not found; .*rasengan compare"):
        write_report(tmp_path)


def test_a_refused_folder_gets_no_page(tmp_path):
    (tmp_path / "comparison.json").write_text("{}", encoding="utf-8")
    with pytest.raises(OutputError):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()
