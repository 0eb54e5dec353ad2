"""How the names of files and rows are written in messages and records."""

import re

# Controls, half characters of undecodable file names, line ends, and marks that turn the writing
# direction of everything after them.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(name: str) -> str:
    r"""Return a name that stays on its line, its odd characters written as `\xff` or `\u202e`."""
    return _UNPRINTABLE.sub(_escape, name)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # A byte that is not UTF-8, as Python keeps it in a file name.
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def one_line(fault: BaseException) -> str:
    """Put what another library says into one line of bearable length."""
    words = " ".join(str(fault).split()) or type(fault).__name__
    return printable(words if len(words) <= 200 else f"{words[:200]}...")
