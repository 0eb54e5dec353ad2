"""What an optimizer remembers, as a flat table of tensors and numbers, and back again.

Moments are named `moment/<parameter>/<name>`; what a group of parameters knows, where some
optimizers keep what they learn about the learning rate, `group/<index>/<name>`.
"""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from torch import Tensor
from torch.optim import Optimizer

MOMENT, GROUP = "moment", "group"
_BETWEEN = "/"
_MEMBERS = "params"

Values = dict[str, Any]


def flatten_optimizer(optimizer: Optimizer) -> Values:
    """Name every tensor and number that the optimizer's next step depends on."""
    described = optimizer.state_dict()
    groups = {
        index: {name: value for name, value in group.items() if name != _MEMBERS}
        for index, group in enumerate(described["param_groups"])
    }
    return dict(_leaves({MOMENT: described["state"], GROUP: groups}))


def find_misfit(optimizer: Optimizer, values: Values) -> str | None:
    """Say why values are not of this optimizer; None: they are.

    A group may know more than here: some optimizers add numbers with their first step.
    """
    for path in flatten_optimizer(optimizer):
        if path.startswith(GROUP) and path not in values:
            return f"{path} is missing"
    sizes = {
        GROUP: len(optimizer.param_groups),
        MOMENT: sum(len(group[_MEMBERS]) for group in optimizer.param_groups),
    }
    for path in values:
        kind, _, rest = path.partition(_BETWEEN)
        if kind not in sizes or int(rest.partition(_BETWEEN)[0]) >= sizes[kind]:
            return f"{path} is too much"
    return None


def restore_optimizer(optimizer: Optimizer, values: Values) -> None:
    """Make the optimizer remember what `flatten_optimizer` named."""
    described = optimizer.state_dict()
    moments: dict[int, Values] = {}
    groups: list[Values] = described["param_groups"]
    for path, value in values.items():
        kind, index, *tables, name = path.split(_BETWEEN)
        if kind == GROUP:
            is_tuple = isinstance(groups[int(index)].get(name), tuple)  # JSON has lists only
            groups[int(index)][name] = tuple(value) if is_tuple else value
            continue
        table = moments.setdefault(int(index), {})
        for inner in tables:  # bitsandbytes nests its tables
            table = table.setdefault(inner, {})
        table[name] = value
    optimizer.load_state_dict({"state": moments, "param_groups": groups})


def _leaves(tree: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of nested tables with its path."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(cast("Values", value), f"{prefix}{name}{_BETWEEN}")
        else:
            # 8-bit moments share their tables of quantiles, which a file of tensors must not.
            kept = value.detach().cpu().clone() if isinstance(value, Tensor) else value
            yield f"{prefix}{name}", kept
