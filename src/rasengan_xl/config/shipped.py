"""The recipes that come with the package, and how a recipe's name is found."""

from pathlib import Path

from rasengan_xl.config.wording import closest
from rasengan_xl.errors import RecipeError

RECIPES = Path(__file__).parent / "recipes"
COMPARISONS = RECIPES / "comparisons"


def recipe_names() -> list[str]:
    """List the recipes of single runs, `lora` and its kin."""
    return sorted(file.stem for file in RECIPES.glob("*.toml"))


def comparison_names() -> list[str]:
    """List the comparisons."""
    return sorted(file.stem for file in COMPARISONS.glob("*.toml"))


def find_shipped(name: str) -> Path:
    """Return the file of a shipped recipe or comparison.

    Raises:
        RecipeError: Nothing of that name ships.
    """
    for file in (RECIPES / f"{name}.toml", COMPARISONS / f"{name}.toml"):
        if file.is_file():
            return file
    known = [*recipe_names(), *comparison_names()]
    raise RecipeError(f"no recipe {name!r} ships{closest(name, known)}; see `rasengan recipes`")


def copy_shipped(name: str, to: Path) -> Path:
    """Copy a shipped recipe to a file, which must not exist.

    Recipes that it extends are found by name from anywhere, so the copy works as it is.

    Raises:
        RecipeError: There is no such recipe, or the file cannot be written.
    """
    source = find_shipped(name)
    try:
        with to.open("x", encoding="utf-8") as file:
            file.write(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(
            f"{to}: cannot be written ({error.strerror}); name another file"
        ) from error
    return to


def describe_recipe(file: Path) -> str:
    """Return the comment that opens a recipe."""
    first_line, _, _ = file.read_text(encoding="utf-8").partition("\n")
    return first_line.lstrip("# ")


def find_recipe(name: str, folder: Path = RECIPES, near: Path | None = None) -> Path:
    """Return the file of a recipe.

    Args:
        name: A file, or the name of a shipped recipe.
        folder: Where shipped recipes of this kind lie.
        near: Folder of the recipe that names this one; its files come first.

    Raises:
        RecipeError: There is neither such a file nor such a recipe.
    """
    for start in (near, Path()) if near else (Path(),):
        file = start / name
        if file.suffix == ".toml" and file.is_file():
            return file
    shipped = folder / f"{name.removesuffix('.toml')}.toml"
    if shipped.is_file() and not Path(name).is_absolute():
        return shipped
    if name.endswith(".toml"):
        raise RecipeError(f"{name}: no such file")
    known = sorted(file.stem for file in folder.glob("*.toml"))
    raise RecipeError(
        f"unknown recipe {name!r}{closest(name, known)}; "
        "`rasengan recipes` lists what ships, and a file's name ends in .toml"
    )
