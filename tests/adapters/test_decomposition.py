import pytest

from rasengan_xl.adapters.decomposition import (
    Decomposition,
    parse_decompositions,
    write_decompositions,
)


def test_what_is_written_is_read_back():
    written = (Decomposition(norm_of="base", epsilon=2.0**-23), Decomposition(axis="input"))
    assert parse_decompositions(write_decompositions(written)) == written


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "{}x",
        "3",
        '["a"]',
        "[{}]",
        '[{"axis": "both", "norm_of": "base", "epsilon": 0}]',
        '[{"axis": "output", "norm_of": "none", "epsilon": 0}]',
        '[{"axis": "output", "norm_of": "base", "epsilon": -1}]',
        '[{"axis": "output", "norm_of": "base", "epsilon": NaN}]',
        '[{"axis": ["output"], "norm_of": "base", "epsilon": 0}]',
        '[{"axis": "output", "norm_of": "base", "epsilon": "much"}]',
        "[" * 5000,
    ],
)
def test_what_was_not_written_is_refused(text):
    with pytest.raises(ValueError, match="."):
        parse_decompositions(text)
