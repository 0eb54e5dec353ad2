"""The templates of the page: filled in, with style and script inside, nothing outside."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from rasengan_xl.report.numbers import write_plain
from rasengan_xl.report.own_script import SCRIPT, SCRIPT_HASH, read_asset
from rasengan_xl.report.svg import COLOURS, PLACES_APART


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
    environment.filters["plain_number"] = write_plain
    environment.globals["places_apart"] = PLACES_APART  # macros see no other values
    return environment.get_template(name).render(
        style=read_asset("page.css"),
        script=SCRIPT,
        script_hash=SCRIPT_HASH,
        colours=COLOURS,
        **values,
    )
