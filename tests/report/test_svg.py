import re
import xml.etree.ElementTree as ET

import pytest

from rasengan_xl.report.svg import INK, SOFT, Size, colour_of, name_series, render_svg

WIDE = Size(width=500, height=300)


def draw(figure, size):
    axes = figure.add_subplot()
    (line,) = axes.plot([0, 1], [0, 2], marker="o", color=colour_of(9))
    line.set_gid(name_series(9))
    axes.set_xlabel('a label with <b> & "$x_1$"', color=INK)
    axes.axhline(1, color=SOFT)


@pytest.fixture(scope="module")
def svg():
    return render_svg(draw, WIDE, "one", 'what "it" shows')


def test_equal_drawings_are_equal_text(svg):
    assert render_svg(draw, WIDE, "one", 'what "it" shows') == svg


def test_a_drawing_is_well_formed_and_names_itself(svg):
    root = ET.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label") == root.findtext("title") == 'what "it" shows'
    assert root.get("viewBox") == "0 0 500 300"


def test_colours_are_left_to_the_page(svg):
    assert "var(--arm-1)" in svg
    assert "var(--ink)" in svg
    assert not re.search(r"#0[ab]0[ab]0[0-9a-f]", svg)


def test_a_series_can_be_taken_out(svg):
    assert svg.count('data-series="9"') == 1


def test_nothing_reaches_beyond_the_drawing(svg):
    assert "<style" not in svg
    assert "http" not in svg
    assert "font-family" not in svg


def test_letters_stay_letters(svg):
    assert 'a label with &lt;b&gt; &amp; "$x_1$"' in svg.replace("&quot;", '"')


def test_two_drawings_share_no_id(svg):
    def ids(text):
        return set(re.findall(r' id="([^"]+)"', text))

    other = render_svg(draw, WIDE, "two", "other")
    assert ids(svg)
    assert not ids(svg) & ids(other)


def test_every_reference_leads_somewhere(svg):
    ids = set(re.findall(r' id="([^"]+)"', svg))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg)) <= ids


def test_letters_that_the_font_lacks_do_not_stop_a_drawing():
    def write(figure, size):
        figure.add_subplot().set_title("忍者")

    assert "忍者" in render_svg(write, WIDE, "letters", "letters")
