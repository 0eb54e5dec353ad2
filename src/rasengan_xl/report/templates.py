"""The templates of the page: filled in, with style and script inside, nothing outside."""

from typing import Any, cast

from jinja2 import Environment, PackageLoader, StrictUndefined

from rasengan_xl.report.numbers import write_plain
from rasengan_xl.report.own_script import SCRIPT, SCRIPT_HASH, read_asset
from rasengan_xl.report.svg import COLOURS, shape_of


def render(name: str, **values: object) -> str:
    """Fill in a template.

    Args:
        name: Of its file.
        values: What it names; `style`, `script` and its hash are added.
    """
    environment = Environment(
        loader=PackageLoader("rasengan_xl.report", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Jinja types a filter as one of its own.
    filters = cast("dict[str, Any]", environment.filters)
    filters |= {"plain_number": write_plain, "shape": shape_of}
    return environment.get_template(name).render(
        style=read_asset("page.css"),
        script=SCRIPT,
        script_hash=SCRIPT_HASH,
        colours=COLOURS,
        **values,
    )
