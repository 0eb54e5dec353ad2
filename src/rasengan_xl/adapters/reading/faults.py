"""Say in one line what is wrong with a file that nobody has vouched for."""

from pathlib import Path

from rasengan_xl.errors import AdapterError

_NAME_LENGTH, _PATH_LENGTH = 70, 120
_CUT = "..."


def fault(file: Path, reason: str) -> AdapterError:
    """Make the error that refuses a file.

    Args:
        file: Which.
        reason: What is wrong with it, and the remedy; what it quotes must be `shown`.
    """
    return AdapterError(f"{_shown_path(file)}: {reason}")


def shown(text: str, length: int = _NAME_LENGTH) -> str:
    """Make a text from a file fit to be printed: short, and nothing that steers a terminal."""
    if len(text) > length:  # what differs between two names lies near their ends
        head = (length - len(_CUT)) // 2
        text = text[:head] + _CUT + text[head + len(_CUT) - length :]
    safe = "".join(map(_visible, text))
    return safe if len(safe) <= length else safe[: length - len(_CUT)] + _CUT


def _shown_path(file: Path) -> str:
    """Show the end of a path, which tells most."""
    safe = "".join(map(_visible, str(file)))
    return safe if len(safe) <= _PATH_LENGTH else _CUT + safe[len(_CUT) - _PATH_LENGTH :]


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode()
