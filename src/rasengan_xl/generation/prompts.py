"""Where prompts come from: arguments, a file, or the captions of pictures held out of training."""

import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rasengan_xl.config.drawing_settings import PromptLine
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.config.wording import describe_errors
from rasengan_xl.dataset.plan import plan_pictures
from rasengan_xl.dataset.split import split_held_out
from rasengan_xl.errors import RecipeError
from rasengan_xl.generation.emphasis import escape_emphasis
from rasengan_xl.runs.records import StageProgress
from rasengan_xl.sources.opening import open_source

MOST_PROMPTS = 10_000
_LARGEST_FILE = 64 * 2**20
_COMMENT = "#"


def as_lines(prompts: Sequence[str]) -> list[PromptLine]:
    """Take prompts as they are.

    Raises:
        RecipeError: One holds what no text may hold.
    """
    return [
        _check({"prompt": prompt}, f"prompt {number}")
        for number, prompt in enumerate(prompts, start=1)
    ]


def read_prompts(file: Path) -> list[PromptLine]:
    """Read prompts from a file, one a line.

    Empty lines and those that begin with `#` are left out.  In a `.jsonl` file each line is an
    object with `prompt` and, where they differ from the other pictures, `negative_prompt`,
    `seed` and `size`.

    Raises:
        RecipeError: The file cannot be read, or a line of it is not allowed.
    """
    lines = [
        (f"{file}: line {number}", line.strip())
        for number, line in enumerate(_read(file).splitlines(), start=1)
        if line.strip() and not line.lstrip().startswith(_COMMENT)
    ]
    if not 0 < len(lines) <= MOST_PROMPTS:
        raise RecipeError(
            f"{file}: holds {len(lines):,} prompts; give 1 to {MOST_PROMPTS:,}, one a line"
        )
    parse = _parse_object if file.suffix.lower() in {".jsonl", ".ndjson"} else _as_prompt
    return [_check(parse(line, place), place) for place, line in lines]


def held_out_prompts(
    settings: RunSettings, count: int
) -> Generator[StageProgress, None, list[PromptLine]]:
    """Take the captions of a run's held-out pictures, as held-out loss is measured with them.

    A caption is no prompt that somebody spelt: what would be emphasis is taken as text.

    Raises:
        DatasetError: The run's dataset cannot be read any more.
        RecipeError: Fewer pictures were held out.
    """
    captions = yield from held_out_captions(settings)
    if not 0 < count <= len(captions):
        raise RecipeError(
            f"generate: held_out = {count}: the run held out {len(captions)} pictures of "
            f"{settings.dataset.source}; ask for 1 to {len(captions)}"
        )
    return as_captions(captions[:count])


def as_captions(captions: Sequence[str]) -> list[PromptLine]:
    """Take captions as prompts: what would be emphasis is text."""
    return as_lines([escape_emphasis(caption) for caption in captions])


def held_out_captions(settings: RunSettings) -> Generator[StageProgress, None, list[str]]:
    """List the captions of all pictures that a run holds out, in order.

    Raises:
        DatasetError: The run's dataset cannot be read any more.
    """
    wanted = settings.dataset
    source = yield from open_source(wanted, settings.caption.origin)
    plan = plan_pictures(source, wanted, settings.caption, settings.seed)
    _, held_out = split_held_out(plan.used, wanted.held_out_share, wanted.held_out_minimum)
    return [picture.wordings[0] for picture in held_out]


def _read(file: Path) -> str:
    try:
        if file.stat().st_size > _LARGEST_FILE:
            raise RecipeError(f"{file}: is larger than a file of prompts can be; one a line")
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{file}: is not UTF-8 text; save it as such") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise RecipeError(f"{file}: cannot be read ({reason}); name a file of prompts") from error


def _as_prompt(line: str, _: str) -> dict[str, Any]:
    return {"prompt": line}


def _parse_object(line: str, place: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f'{place}: is not JSON; write {{"prompt": "..."}}') from error
    if not isinstance(value, dict):
        raise RecipeError(f'{place}: is no JSON object; write {{"prompt": "..."}}')
    return value  # pyright: ignore[reportUnknownVariableType] - checked by the caller


def _check(values: dict[str, Any], place: str) -> PromptLine:
    try:
        return PromptLine(**values)
    except ValidationError as error:
        raise RecipeError(f"{place}: {describe_errors(error, PromptLine)}") from error
    except TypeError as error:
        raise RecipeError(f"{place}: its keys are not those of a prompt") from error
