"""Write down a command so that it can be typed again."""

import shlex
from collections.abc import Sequence
from pathlib import Path


def write_command(
    verb: str, name: str, overrides: Sequence[str] = (), out: Path | None = None
) -> str:
    """Return a command line that does the same again.

    Args:
        verb: Such as `compare`.
        name: What it is given first.
        overrides: Every `--set`.
        out: Where it writes, if not where it does by itself.
    """
    words = ["rasengan", verb, name]
    for override in overrides:
        words += ["--set", override]
    if out is not None:
        words += ["--out", str(out)]
    return shlex.join(words)
