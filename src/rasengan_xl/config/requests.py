"""Check what was asked for on the command line, with the same words as for a recipe."""

from typing import Any

from pydantic import ValidationError

from rasengan_xl.config.comparison_settings import PictureSettings
from rasengan_xl.config.export_settings import ExportSettings
from rasengan_xl.config.wording import describe_errors
from rasengan_xl.errors import RecipeError


def picture_settings(**values: Any) -> PictureSettings:
    """Build picture settings.

    Raises:
        RecipeError: A value is not allowed.
    """
    try:
        return PictureSettings(**values)
    except ValidationError as error:
        raise RecipeError(f"generate: {describe_errors(error, PictureSettings)}") from error


def export_settings(**values: Any) -> ExportSettings:
    """Build the settings of an export.

    Raises:
        RecipeError: A value is not allowed.
    """
    try:
        return ExportSettings(**values)
    except ValidationError as error:
        raise RecipeError(f"export: {describe_errors(error, ExportSettings)}") from error
