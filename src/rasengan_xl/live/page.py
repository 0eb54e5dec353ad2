"""The live page: one file without outside assets, whose policy lets nothing else in."""

import base64
import hashlib
from dataclasses import dataclass
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePage:
    """A page, and the security policy to send it with."""

    content: bytes
    policy: str


def load_page() -> LivePage:
    """Put the page together from its template, style and script."""
    style, script = _read_asset("live.css"), _read_asset("charts.js") + _read_asset("live.js")
    environment = Environment(
        loader=PackageLoader("rasengan_xl.live", "template"),
        autoescape=True,
        undefined=StrictUndefined,
    )
    template = environment.get_template("live.html.jinja")
    return LivePage(
        content=template.render(style=style, script=script).encode(),
        policy=(
            f"default-src 'none'; style-src '{_hash_text(style)}'; "
            f"script-src '{_hash_text(script)}'; img-src 'self' data:; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
    )


def _read_asset(name: str) -> str:
    asset = resources.files("rasengan_xl.live") / "template" / name
    return asset.read_text(encoding="utf-8")


def _hash_text(text: str) -> str:
    """Return what a policy calls the one text that may stand between two tags."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
