"""Check what was asked for on the command line, with the same words as for a recipe."""

from typing import Any, TypeVar

from pydantic import ValidationError

from rasengan_xl.config.drawing_settings import DrawingSettings
from rasengan_xl.config.export_settings import ExportSettings
from rasengan_xl.config.fields import Settings
from rasengan_xl.config.wording import describe_errors
from rasengan_xl.errors import RecipeError

Kind = TypeVar("Kind", bound=Settings)


def drawing_settings(**values: Any) -> DrawingSettings:
    """Build settings of `generate`.

    Raises:
        RecipeError: A value is not allowed.
    """
    return _build(DrawingSettings, "generate", values)


def export_settings(**values: Any) -> ExportSettings:
    """Build the settings of an export.

    Raises:
        RecipeError: A value is not allowed.
    """
    return _build(ExportSettings, "export", values)


def _build(kind: type[Kind], verb: str, values: dict[str, Any]) -> Kind:
    try:
        return kind(**values)
    except ValidationError as error:
        raise RecipeError(f"{verb}: {describe_errors(error, kind)}") from error
