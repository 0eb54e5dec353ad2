"""The page in a browser: what a reader does with mouse and keys."""

import shutil

import pytest
from playwright.sync_api import sync_playwright

from rasengan_xl.report.joined import write_joined_report
from rasengan_xl.report.page import write_report

from .sample import build_arm, build_comparison, build_run, write_folder

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome on PATH")
SIZES = (390, 1440)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(rich_folder):
    return write_report(rich_folder)


@pytest.fixture
def open_page(browser):
    """Open a page; whatever it complains of or asks for makes the test fail at its end."""
    complaints, requests, contexts = [], [], []

    def open_file(file, width=1440, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(file.as_uri())
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert complaints == []
    asked = [url for url in requests if not url.startswith("data:")]
    assert len(asked) == len(contexts)
    assert all(url.startswith("file:") and url.endswith("/report.html") for url in asked)


def cut(page):
    return float(page.locator(".stage input").input_value())


def test_the_slider_is_dragged_and_moved_by_keys(open_page, report):
    page = open_page(report)
    stage = page.locator(".stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    assert cut(page) == 50
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 200, steps=4)
    page.mouse.up()
    assert cut(page) == pytest.approx(20, abs=1)
    handle = page.locator(".handle").bounding_box()
    assert handle["x"] - box["x"] == pytest.approx(box["width"] * 0.2, abs=6)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert cut(page) == pytest.approx(22, abs=1)


def test_any_two_columns_of_any_prompt_can_be_chosen(open_page, report):
    page = open_page(report)
    page.select_option("select[name=left]", label="lora")
    page.select_option("select[name=right]", label="dora")
    page.select_option("select[name=row]", index=2)
    left, right = (page.locator(f".stage img.{side}") for side in ("left", "right"))
    assert "lora, training seed 0" in left.get_attribute("alt")
    assert "dora, training seed 0" in right.get_attribute("alt")
    assert "picture seed 102" in left.get_attribute("alt")
    assert page.locator(".tag-right").inner_text() == "dora · seed 0"
    assert left.get_attribute("src") != right.get_attribute("src")


def test_a_picture_is_enlarged_by_click_and_closed_by_its_button(open_page, report):
    page = open_page(report)
    dialog = page.locator("dialog")
    assert not dialog.is_visible()
    shot = page.locator(".shot:visible").nth(1)
    small = shot.bounding_box()["width"]
    shot.click()
    assert dialog.is_visible()
    picture = dialog.locator("img")
    assert picture.bounding_box()["width"] > 2 * small
    assert picture.get_attribute("src") == shot.locator("img").get_attribute("src")
    dialog.locator(".close").click()
    assert not dialog.is_visible()


def test_a_picture_is_enlarged_moved_on_and_closed_by_keys(open_page, report):
    page = open_page(report)
    dialog = page.locator("dialog")
    page.locator(".shot:visible").first.focus()
    page.keyboard.press("Enter")
    assert dialog.is_visible()
    title = dialog.locator("#enlarged-title")
    assert title.inner_text().startswith("base:")
    page.keyboard.press("ArrowLeft")  # the edge
    assert title.inner_text().startswith("base:")
    page.keyboard.press("ArrowRight")
    assert title.inner_text().startswith("lora, training seed 0")
    page.keyboard.press("ArrowDown")
    assert "picture seed 101" in title.inner_text()
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    focused = page.evaluate(
        "[document.activeElement.dataset.row, document.activeElement.dataset.column]"
    )
    assert focused == ["1", "1"]


def test_the_training_seed_switches_all_pictures(open_page, report):
    page = open_page(report)
    source = page.locator(".stage img.right").get_attribute("src")
    shown = page.locator(".shot:visible")
    count = shown.count()
    page.locator(".seeds input").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".seeds input").nth(1).is_checked()
    assert shown.count() == count
    assert "training seed 1" in shown.nth(1).locator("img").get_attribute("alt")
    assert page.locator(".stage img.right").get_attribute("src") != source
    page.locator(".seeds label").nth(2).click()
    assert page.locator(".no-picture:visible").first.inner_text() == "seed 2: this run failed"


def test_a_seed_that_was_not_drawn_leaves_the_slider_saying_so(open_page, report):
    page = open_page(report)
    page.select_option("select[name=right]", label="dora")
    assert not page.locator(".absent").is_visible()
    page.locator(".seeds label").nth(2).click()
    assert page.locator(".absent").is_visible()


def test_an_arm_is_taken_out_of_all_charts_together(open_page, report):
    page = open_page(report)
    buttons = page.locator('[data-toggle="1"]')
    buttons.first.click()
    parts = page.locator('[data-series="1"]')
    opacity = "parts => new Set(parts.map(part => getComputedStyle(part).opacity)).size"
    page.wait_for_timeout(300)  # it fades
    assert parts.count() > 10
    assert parts.evaluate_all(opacity) == 1
    assert parts.first.evaluate("part => getComputedStyle(part).opacity") == "0"
    pressed = [buttons.nth(n).get_attribute("aria-pressed") for n in range(buttons.count())]
    assert len(pressed) > 3
    assert set(pressed) == {"false"}
    buttons.last.click()
    assert buttons.first.get_attribute("aria-pressed") == "true"


def test_the_dark_scheme_changes_page_and_charts(open_page, report):
    def colours(scheme):
        page = open_page(report, scheme=scheme)
        return page.evaluate(
            """() => [
                getComputedStyle(document.body).backgroundColor,
                getComputedStyle(document.body).color,
                getComputedStyle(document.querySelector('svg.wide text')).fill,
                getComputedStyle(document.querySelector('svg.wide [data-series="0"] path')).stroke,
            ]"""
        )

    light, dark = colours("light"), colours("dark")
    assert all(one != other for one, other in zip(light, dark, strict=True))


@pytest.mark.parametrize("width", SIZES)
def test_no_page_scrolls_sideways_and_charts_fit_the_screen(open_page, report, width):
    page = open_page(report, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    kinds = [page.locator(f"svg.{kind}:visible").count() for kind in ("wide", "narrow")]
    assert kinds == ([0, 7] if width == 390 else [7, 0])


@pytest.mark.parametrize("width", SIZES)
def test_a_joined_page_works_wall_by_wall(open_page, rich_folder, tmp_path, width):
    file = write_joined_report([rich_folder, rich_folder], tmp_path)
    page = open_page(file, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    walls = page.locator(".wall")
    walls.nth(1).locator(".seeds label").nth(1).click()
    alts = [wall.locator(".shot:visible img").nth(1).get_attribute("alt") for wall in walls.all()]
    assert "training seed 0" in alts[0]
    assert "training seed 1" in alts[1]


def test_print_leaves_out_controls_and_cuts_no_chart(open_page, report):
    page = open_page(report, scheme="dark")
    page.emulate_media(media="print")
    for control in (".slider", ".seeds", ".head nav"):
        assert not page.locator(control).first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    breaks = page.locator("figure.chart").evaluate_all(
        "all => all.map(each => getComputedStyle(each).breakInside)"
    )
    assert set(breaks) == {"avoid"}


def test_text_has_enough_contrast_in_both_schemes(open_page, report):
    """WCAG AA: 4.5 to 1 for text on the page's own grounds."""
    pairs = [
        (text, ground)
        for ground in ("--paper", "--raised")
        for text in ("--ink", "--soft", "--accent-text", "--alarm", "--fine")
    ]
    pairs += [("--alarm", "--alarm-wash"), ("--accent-text", "--accent-wash")]
    for scheme in ("light", "dark"):
        page = open_page(report, scheme=scheme)
        names = sorted({name for pair in pairs for name in pair})
        found = page.evaluate(
            """names => {
                const style = getComputedStyle(document.documentElement);
                return names.map(name => style.getPropertyValue(name).trim());
            }""",
            names,
        )
        values = dict(zip(names, found, strict=True))
        for text, ground in pairs:
            assert contrast(values[text], values[ground]) >= 4.5, (scheme, text, ground)


def test_borders_of_controls_stand_out_in_both_schemes(open_page, report):
    """WCAG 1.4.11: 3 to 1."""
    for scheme in ("light", "dark"):
        page = open_page(report, scheme=scheme)
        edge, *grounds = page.evaluate(
            """() => ["--edge", "--paper", "--raised"].map((name) =>
                getComputedStyle(document.documentElement).getPropertyValue(name).trim())"""
        )
        assert all(contrast(edge, ground) >= 3 for ground in grounds), scheme


def test_a_base_and_four_arms_fit_a_tablet_and_intervals_are_whole(open_page, report):
    page = open_page(report, width=768)
    assert page.evaluate("document.documentElement.scrollWidth") <= 768
    box = page.locator('.table-box[aria-label="All figures"]')
    assert box.evaluate("box => box.scrollWidth <= box.clientWidth")
    lines = "all => Math.max(...all.map(each => each.getClientRects().length))"
    assert page.locator(".figures .interval:visible").evaluate_all(lines) == 1


def test_a_wide_table_keeps_its_first_column_in_view(open_page, report):
    page = open_page(report, width=768)
    page.locator(".chart details summary").last.click()
    box = page.locator(".chart details .table-box:visible")
    first = box.locator("tbody tr").first.locator("> :first-child")
    before = first.bounding_box()["x"]
    box.evaluate("box => { box.scrollLeft = 200 }")
    assert box.evaluate("box => box.scrollLeft") > 0
    assert first.bounding_box()["x"] == pytest.approx(before, abs=1)


def test_on_a_phone_a_value_and_its_interval_stand_on_one_line(open_page, report):
    page = open_page(report, width=390)
    cell = page.locator(".figures td:has(.interval)").first
    value, interval = (cell.locator(f"> {part}").bounding_box() for part in (".value", ".interval"))
    assert interval["x"] > value["x"]
    assert abs(value["y"] + value["height"] / 2 - interval["y"] - interval["height"] / 2) < 6


def test_a_wall_that_scrolls_takes_the_focus_and_has_a_name(open_page, tmp_path):
    arms = [build_arm(f"rank-{rank}", [build_run(f"rank-{rank}")]) for rank in range(7)]
    page = open_page(write_report(write_folder(tmp_path / "many", build_comparison(*arms), 8)))
    wall = page.get_by_role("region", name="Pictures, by prompt and arm")
    wall.focus()
    assert wall.evaluate("wall => wall === document.activeElement")


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour):
    digits = colour.lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    channels = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
