"""Which arms `--only` names."""

from collections.abc import Collection

from rasengan_xl.config.wording import closest
from rasengan_xl.errors import RecipeError


def refuse_unknown_arms(only: Collection[str], arms: Collection[str]) -> None:
    """Refuse a name that is no arm's.

    Raises:
        RecipeError: There is one; the closest that exists is named.
    """
    for arm in only:
        if arm not in arms:
            raise RecipeError(
                f"--only {arm}: no such arm{closest(arm, arms)}; there are {', '.join(arms)}"
            )
