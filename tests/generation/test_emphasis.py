import pytest
from hypothesis import given
from hypothesis import strategies as st

from rasengan_xl.generation.emphasis import (
    Fragment,
    escape_emphasis,
    is_plain,
    plain_text,
    read_emphasis,
    write_emphasis,
)


def pairs(prompt):
    return [(each.text, pytest.approx(each.weight)) for each in read_emphasis(prompt)]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a (red:1.3) cat", [("a ", 1), ("red", 1.3), (" cat", 1)]),
        ("a (red)1.3 cat", [("a ", 1), ("red", 1.3), (" cat", 1)]),
        ("a (red)++ cat", [("a ", 1), ("red", 1.21), (" cat", 1)]),
        ("a red++ cat", [("a ", 1), ("red", 1.21), (" cat", 1)]),
        ("red--, cat", [("red", 0.81), (", cat", 1)]),
        ("(a (b:1.5) c:2)", [("a ", 2), ("b", 3), (" c", 2)]),
        ("(two words, both:.5)", [("two words, both", 0.5)]),
    ],
)
def test_both_spellings_weigh_words(prompt, expected):
    assert pairs(prompt) == expected


@pytest.mark.parametrize(
    "prompt",
    [
        "a ninja",
        "a picture (sketch) of a cat",
        "at 12:30 (noon, 12:30)",
        "(2019)-(2020)",
        "well-known, t-shirt, 18+",
        "a (b",
        "a) b",
        "",
        'quotes "(here)" and a\nnew line',
    ],
)
def test_what_has_no_weight_is_text_to_the_letter(prompt):
    assert pairs(prompt) == [(prompt, 1)]


def test_an_escaped_parenthesis_is_text():
    assert pairs(r"a \(red:1.3\) c\++") == [("a (red:1.3) c++", 1)]


def test_deep_nesting_is_text_and_does_no_harm():
    for prompt in ("(" * 500 + "x" + ")" * 500, "(" * 500):
        assert plain_text(read_emphasis(prompt)) == prompt


def test_it_is_written_as_a1111_and_comfyui_read_it():
    assert write_emphasis(read_emphasis("a red++ (x) cat")) == r"a (red:1.21) \(x\) cat"
    assert write_emphasis([Fragment(" red ", 1.5)]) == " (red:1.5) "


TEXT = st.text(alphabet="ab ()\\+-:.,1", max_size=24)


@given(TEXT)
def test_any_text_can_be_escaped(text):
    fragments = read_emphasis(escape_emphasis(text))
    assert is_plain(fragments)
    assert plain_text(fragments) == text


@given(TEXT)
def test_what_is_written_reads_the_same(text):
    # Weights are written with four digits, and white space beside emphasis has none.
    once = read_emphasis(write_emphasis(read_emphasis(text)))
    again = read_emphasis(write_emphasis(once))
    assert plain_text(again) == plain_text(once)
    assert write_emphasis(again) == write_emphasis(once)
