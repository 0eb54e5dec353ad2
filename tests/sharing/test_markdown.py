import html

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from rasengan_xl.sharing.markdown import escape, on_one_line

RENDERER = MarkdownIt("gfm-like", {"linkify": False})


@pytest.mark.parametrize(
    "text",
    [
        "a | b",
        "`code`",
        "```",
        "<b>bold</b> &amp; &lt;",
        "*a* _b_ ~~c~~ **d**",
        "[link](http://x) ![picture](y)",
        "back\\|slash",
        "$$a$$ @alice #1",
    ],
)
def test_a_cell_of_a_table_shows_the_text_as_it_is(text: str):
    table = RENDERER.render(f"| a | b |\n|---|---|\n| {escape(text)} | end |\n")
    assert table.count("<td>") == 2
    assert html.unescape(table.split("<td>")[1].split("</td>")[0]) == text


@given(st.text(max_size=40))
def test_any_text_comes_out_as_it_went_in_on_one_line(text: str):
    shown = RENDERER.render(f"x {escape(text)} x")
    assert html.unescape(shown) == f"<p>x {on_one_line(text)} x</p>\n".replace("x  x", "x  x")


def test_lines_and_controls_become_spaces():
    assert on_one_line("a\n\n---\r\tb\u202ec\x00") == "a --- b c"
