"""The templates of the page: filled in, with style and script inside, nothing outside."""

import base64
import hashlib
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined

from rasengan_xl.report.svg import COLOURS


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
    script = _read_asset("page.js")
    return environment.get_template(name).render(
        style=_read_asset("page.css"),
        script=script,
        script_hash=_hash_script(script),
        colours=COLOURS,
        **values,
    )


def _read_asset(name: str) -> str:
    return (resources.files("rasengan_xl.report") / "template" / name).read_text(encoding="utf-8")


def _hash_script(script: str) -> str:
    """Return what the page's security policy calls its own script, so that no other can run."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
