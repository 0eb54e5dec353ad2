"""The arms of shipped comparisons, resolved key by key without the comparison's own checks."""

from rasengan_xl.config.recipe import lay_over, read_toml, resolve_extends, validate_run
from rasengan_xl.config.shipped import COMPARISONS


def comparison_text(name: str) -> str:
    return (COMPARISONS / f"{name}.toml").read_text(encoding="utf-8")


def read_arms(name: str):
    tree = _read_tree(name)
    base = resolve_extends(tree["base"], COMPARISONS / f"{name}.toml")
    arms = {}
    for arm, variation in tree["arms"].items():
        settings = {}
        lay_over(settings, base)
        lay_over(settings, resolve_extends(variation, COMPARISONS / f"{name}.toml"))
        arms[arm] = validate_run(settings, name)
    return arms


def _read_tree(name: str):
    tree = read_toml(COMPARISONS / f"{name}.toml")
    if "extends" not in tree:
        return tree
    lower = _read_tree(tree.pop("extends"))
    lay_over(lower, tree)
    return lower
