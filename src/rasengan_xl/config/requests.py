"""Check what was asked for on the command line, with the same words as for a recipe."""

from typing import Any

from pydantic import ValidationError

from rasengan_xl.config.drawing_settings import DrawingSettings
from rasengan_xl.config.export_settings import ExportSettings
from rasengan_xl.config.wording import describe_errors
from rasengan_xl.errors import RecipeError


def drawing_settings(**values: Any) -> DrawingSettings:
    """Build settings of `generate`.

    Raises:
        RecipeError: A value is not allowed.
    """
    try:
        return DrawingSettings(**values)
    except ValidationError as error:
        raise RecipeError(f"generate: {describe_errors(error, DrawingSettings)}") from error


def export_settings(**values: Any) -> ExportSettings:
    """Build the settings of an export.

    Raises:
        RecipeError: A value is not allowed.
    """
    try:
        return ExportSettings(**values)
    except ValidationError as error:
        raise RecipeError(f"export: {describe_errors(error, ExportSettings)}") from error
