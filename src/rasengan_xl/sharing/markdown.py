"""Text that comes out of Markdown as it went in, whatever characters it holds."""

import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

# Every sign that begins something in CommonMark, in GitHub's tables and links, or in HTML; as a
# numeric reference it is that sign and no more (spec.commonmark.org, "Entity and numeric
# character references").
_SIGNS = re.compile(r"[\\`*_{}\[\]<>#|~$@&!^]|:(?=//)|(?<=www)\.")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class Markdown(str):
    """Markdown of our own making, which is not escaped again."""

    __slots__ = ()


def on_one_line(text: str) -> str:
    """Take line ends, controls and marks of writing direction out of a text."""
    return " ".join(_CONTROLS.sub(" ", text).split())


def escape(text: str) -> Markdown:
    """Write a text so that it stands in a paragraph or a table's cell as it is."""
    return Markdown(_SIGNS.sub(lambda sign: f"&#{ord(sign[0])};", on_one_line(text)))


def render(name: str, **values: object) -> str:
    """Fill in a template; what is not `Markdown` is escaped.

    Args:
        name: Of the template's file.
        values: What it names.
    """
    environment = Environment(
        loader=PackageLoader("rasengan_xl.sharing", "template"),
        undefined=StrictUndefined,
        finalize=_escape_the_rest,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # that would be for HTML alone
    )
    return environment.get_template(name).render(**values)


def _escape_the_rest(value: Any) -> str:
    return value if isinstance(value, Markdown) else escape(str(value))
