r"""Which words of a prompt are emphasized: read in both spellings people use, written in one.

`(word:1.3)` as in A1111 and ComfyUI, `(word)1.3`, `(word)++` and `word++` as in compel.  Bare
parentheses are text, as they are to SDXL's tokenizers; so are `\(`, `\)`, `\+` and `\-`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_STRONGER, _WEAKER = 1.1, 0.9
"""What each `+` and each `-` multiplies by, as in github.com/damian0815/compel."""

_HEAVIEST, _DEEPEST = 10.0, 20
"""What is heavier or nested deeper is text: `(at 12:30)` is a time."""

_ENDS = r"(?=[\s,;:!?)]|\.(?!\d)|\Z)"
_ESCAPED = re.compile(r"\\([()+\-\\])")
_WEIGHT_INSIDE = re.compile(r":\s*(\d{0,2}\.\d{1,6}|\d{1,2}\.?)\s*\Z")
_MARK_AFTER = re.compile(rf"(\d{{0,2}}\.\d{{1,6}}|\d{{1,2}}|\++|-+){_ENDS}")
_SIGNED_WORD = re.compile(rf"([^\s()\\+\-]+)(\+{{2,}}|-{{2,}}){_ENDS}")


@dataclass(frozen=True, slots=True)
class Fragment:
    """A part of a prompt whose words have one weight."""

    text: str
    weight: float = 1.0


def read_emphasis(prompt: str) -> list[Fragment]:
    """Part a prompt into fragments of equal weight; nested weights multiply.

    Returns:
        One fragment, of weight 1, where nothing is emphasized.
    """
    return _fuse(_read(prompt, 1.0, 0))


def is_plain(fragments: Sequence[Fragment]) -> bool:
    """Tell whether every word has the weight 1."""
    return all(fragment.weight == 1 for fragment in fragments)


def plain_text(fragments: Sequence[Fragment]) -> str:
    """Return the words without their weights."""
    return "".join(fragment.text for fragment in fragments)


def write_emphasis(fragments: Sequence[Fragment]) -> str:
    """Write fragments as A1111 and ComfyUI read them: `(word:1.3)`, parentheses of text escaped."""
    return "".join(map(_write, fragments))


def escape_emphasis(text: str) -> str:
    """Return what reads as this very text, without emphasis."""
    if is_plain(read_emphasis(text)) and plain_text(read_emphasis(text)) == text:
        return text
    return re.sub(r"([()+\-\\])", r"\\\1", text)


def _write(fragment: Fragment) -> str:
    escaped = re.sub(r"([()\\])", r"\\\1", fragment.text)
    if fragment.weight == 1:
        return escaped
    # White space has no weight; outside, it keeps the words apart in any reader.
    inner = escaped.strip()
    before, after = escaped.split(inner, 1) if inner else (escaped, "")
    return f"{before}({inner}:{fragment.weight:.4g}){after}" if inner else escaped


def _read(text: str, weight: float, depth: int) -> list[Fragment]:
    found: list[Fragment] = []
    place = 0
    while place < len(text):
        if depth < _DEEPEST and (group := _group_at(text, place)):
            inside = _read(group.inner, weight * (group.factor or 1), depth + 1)
            bare = group.factor is None  # such parentheses are text themselves
            found += [Fragment("(", weight), *inside, Fragment(")", weight)] if bare else inside
            place = group.end
        elif word := _word_at(text, place):
            found.append(Fragment(word[1], weight * _factor(word[2])))
            place = word.end()
        else:
            escaped = _ESCAPED.match(text, place)
            found.append(Fragment(escaped[1] if escaped else text[place], weight))
            place = escaped.end() if escaped else place + 1
    return found


@dataclass(frozen=True, slots=True)
class _Group:
    """What parentheses hold, and what they multiply its weight by, if anything."""

    inner: str
    factor: float | None
    end: int


def _group_at(text: str, start: int) -> _Group | None:
    end = _closing(text, start) if text[start] == "(" else None
    if end is None:
        return None
    inner = text[start + 1 : end]
    inside = _WEIGHT_INSIDE.search(inner)
    if inside and float(inside[1]) <= _HEAVIEST:
        return _Group(inner[: inside.start()], float(inside[1]), end + 1)
    after = _MARK_AFTER.match(text, end + 1)
    if after and _factor(after[1]) <= _HEAVIEST:
        return _Group(inner, _factor(after[1]), after.end())
    return _Group(inner, None, end + 1)


def _word_at(text: str, place: int) -> re.Match[str] | None:
    """Match `word++` where a word begins."""
    begins = place == 0 or not (text[place - 1].isalnum() or text[place - 1] in "\\+-_'")
    return _SIGNED_WORD.match(text, place) if begins else None


def _factor(mark: str) -> float:
    if mark[0] in "+-":
        return (_STRONGER if mark[0] == "+" else _WEAKER) ** len(mark)
    return float(mark)


def _closing(text: str, start: int) -> int | None:
    """Find the parenthesis that closes the one at `start`; None: it is text."""
    depth, place = 0, start
    while place < len(text):
        if text[place] == "\\":
            place += 2
            continue
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place
        place += 1
    return None


def _fuse(fragments: Sequence[Fragment]) -> list[Fragment]:
    fused: list[Fragment] = []
    for fragment in fragments:
        if fused and fused[-1].weight == fragment.weight:
            fused[-1] = Fragment(fused[-1].text + fragment.text, fragment.weight)
        else:
            fused.append(fragment)
    return fused or [Fragment("")]
