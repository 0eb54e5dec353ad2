"""Arms that start from an adapter, in its shape."""

from collections.abc import Sequence

from rasengan_xl.adapters.start_file import settle_start
from rasengan_xl.config.comparison import check_arms
from rasengan_xl.config.comparison_settings import ComparisonSettings
from rasengan_xl.config.recipe import overridden_keys
from rasengan_xl.errors import AdapterError, RecipeError


def settle_arms(settings: ComparisonSettings, overrides: Sequence[str] = ()) -> ComparisonSettings:
    """Give every arm that starts from an adapter that one's shape, and check the arms anew.

    Args:
        settings: As the recipe has them; arms that are settled already stay as they are.
        overrides: `dotted.key=value` items of the user's, which must not contradict a file.

    Raises:
        RecipeError: They do, or arms then differ in what `varies` does not name.
        AdapterError: A file is no adapter, or does not fit the base model.
    """
    keys = overridden_keys(overrides)
    arms = dict(settings.arms)
    for name, arm in settings.arms.items():
        own = {key.removeprefix(f"arms.{name}.") for key in keys}
        try:
            arms[name] = settle_start(arm, own)
        except (AdapterError, RecipeError) as error:
            raise type(error)(f"arms.{name}: {error}") from error
    if arms == settings.arms:
        return settings
    settled = settings.model_copy(update={"arms": arms})
    check_arms(settled, settings.name)
    return settled
