"""The script of the page, and what a security policy calls it, so that no other can run."""

import base64
import hashlib
from importlib import resources

REPORT_FILE = "report.html"
"""What the page is called, in the folder of a comparison."""


def read_asset(name: str) -> str:
    """Return a file that stands beside the templates."""
    return (resources.files("rasengan_xl.report") / "template" / name).read_text(encoding="utf-8")


def _hash_script(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


SCRIPT = read_asset("page.js")
SCRIPT_HASH = _hash_script(SCRIPT)
