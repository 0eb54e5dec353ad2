import re
import shutil
import threading
import time
from urllib.parse import urlsplit

import pytest

from rasengan_xl.comparison.result import RunResult
from rasengan_xl.live.page import load_page
from rasengan_xl.live.server import serving

from . import growing_folder as growing

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("needs chromium on the PATH")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


class Visit:
    """A page that is open, and what it asked for and complained of."""

    def __init__(self, browser, url: str, **context) -> None:
        self.page = browser.new_page(**context)
        self.requests, self.complaints = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(url)

    def wait_for(self, text: str) -> None:
        self.page.get_by_text(text).first.wait_for(timeout=10_000)


def test_the_policy_lets_in_the_pages_own_style_and_script_only():
    page = load_page()
    assert re.search(r"style-src 'sha256-[A-Za-z0-9+/]{43}='; script-src 'sha256-", page.policy)
    assert b"https:" not in page.content
    assert re.findall(rb'(?:src|href)="(?!data:,|/report\.html|/state\.json)', page.content) == []


@pytest.mark.slow
def test_the_page_follows_a_folder_that_is_being_written(browser, tmp_path):
    folder = tmp_path / "later"
    with serving(folder, 0) as address:
        visit = Visit(browser, address.url)
        visit.wait_for("Preparing")
        writer = threading.Thread(target=write_comparison, args=(folder,))
        writer.start()
        visit.wait_for("Training lora (seed 0).")
        marked = visit.page.locator(".run").first
        marked.evaluate("node => { node.dataset.marked = 'yes' }")
        visit.wait_for("Held-out loss at step 20")
        visit.wait_for("Measuring the held-out loss of lora (seed 0).")
        visit.wait_for("The comparison is finished: 1 of 2 runs finished, 1 failed.")
        writer.join()
        visit.wait_for("lora (seed 1) failed: out of memory at step 9")
        assert marked.get_attribute("data-marked") == "yes"  # changed in place, not built anew
        assert marked.locator("progress").evaluate("bar => bar.value") == growing.STEPS
        assert visit.page.locator(".chart .held").count() == 1
        assert len(visit.page.locator(".chart .raw").first.get_attribute("d")) > 100
        picture = visit.page.locator("figure", has_text="lora, seed 0").locator("img")
        assert picture.evaluate("image => image.naturalWidth") == 64
        visit.page.get_by_role("link", name="Open the report").click()
        visit.wait_for("all the numbers")
        assert visit.complaints == []
        assert {urlsplit(url).hostname for url in visit.requests} <= {"127.0.0.1", None}
        assert {urlsplit(url).scheme for url in visit.requests} <= {"http", "data"}


def test_the_page_says_when_the_server_is_gone(browser, tmp_path):
    growing.write_settings(tmp_path)
    with serving(tmp_path, 0) as address:
        visit = Visit(browser, address.url)
        visit.wait_for("0 of 4 runs finished.")
    visit.wait_for("The server has not answered since")
    with serving(tmp_path, urlsplit(address.url).port):
        visit.page.locator("#lost").wait_for(state="hidden", timeout=10_000)


def test_a_state_that_cannot_be_shown_does_not_end_the_asking(browser, tmp_path):
    growing.write_settings(tmp_path)
    with serving(tmp_path, 0) as address:
        visit = Visit(browser, address.url)
        visit.wait_for("0 of 4 runs finished.")
        broken = {"body": '{"status": "running", "runs": null}', "content_type": "application/json"}
        asked = []

        def answer(route):
            asked.append(route)
            route.fulfill(**broken)

        visit.page.route("**/state.json", answer, times=1)
        visit.page.wait_for_timeout(2500)
        assert len(asked) == 1
        visit.page.locator("h1").evaluate("head => { head.textContent = 'old' }")
        visit.page.get_by_role("heading", name="sample").wait_for(timeout=10_000)
        assert any("null" in complaint for complaint in visit.complaints)  # and it is not hidden


@pytest.mark.parametrize("width", [320, 390, 1440])
def test_names_and_reasons_from_files_are_text_and_fit(browser, tmp_path, width):
    name = "<b>arm</b>" + "x" * 80
    growing.write_settings(tmp_path, arms=(name, "dora"))
    failed = growing.failed_run("dora", 0, "<img src=x onerror=alert(1)>" + "y" * 200)
    growing.write_result(tmp_path, {"dora": [failed]})
    growing.draw_sample(tmp_path, "base/000.png", "<script>alert(1)</script>" + "z" * 200)
    with serving(tmp_path, 0) as address:
        visit = Visit(browser, address.url, viewport={"width": width, "height": 800})
        visit.wait_for("<img src=x onerror=alert(1)>")
        visit.wait_for("<script>alert(1)</script>")
        assert visit.page.locator("h3", has_text="<b>arm</b>").count() == 1
        assert visit.page.evaluate("document.documentElement.scrollWidth") == width
        assert visit.complaints == []


def write_comparison(folder):
    folder.mkdir()
    growing.write_settings(folder, arms=("lora",), seeds=(0, 1))
    run = growing.open_run(folder, "lora", 0)
    for first in range(1, growing.STEPS, 10):
        growing.add_steps(run, first, first + 9)
        if first == 11:
            growing.add_checkpoint(run, 20)
            time.sleep(3)
    time.sleep(3)
    growing.finish(run)
    growing.draw_sample(folder, "base/000.png")
    growing.draw_sample(folder, "lora/seed-0/000.png")
    finished = RunResult(seed=0, status="finished", run="arms/lora/seed-0")
    report = '<!doctype html><title>report</title><link rel="icon" href="data:,">all the numbers'
    (folder / "report.html").write_text(report)
    growing.write_result(
        folder, {"lora": [finished, growing.failed_run("lora", 1)]}, status="finished"
    )
