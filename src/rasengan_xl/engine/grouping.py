"""Which layers of a UNet are computed at once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from torch import nn

from rasengan_xl.engine.caption_columns import list_text_layers
from rasengan_xl.engine.flat_adapter import FlatAdapter
from rasengan_xl.engine.flat_layout import AdaptedLayer
from rasengan_xl.engine.normed import Frugality
from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.engine.projecting import Projection
from rasengan_xl.engine.projections import Projections

QUERY_KEY_VALUE = ("attn1.to_q", "attn1.to_k", "attn1.to_v")
OUTPUT, TEXT_QUERY, TEXT_OUTPUT = "attn1.to_out.0", "attn2.to_q", "attn2.to_out.0"
FEED_IN, FEED_OUT = "ff.net.0.proj", "ff.net.2"
ENTER, LEAVE = "proj_in", "proj_out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """Knows which layers go together, and makes each group once."""

    modules: Mapping[str, nn.Module]
    layers: Mapping[str, AdaptedLayer]
    options: EngineOptions
    made: dict[tuple[str, ...], Projections] = field(
        default_factory=dict[tuple[str, ...], Projections]
    )

    @property
    def frugality(self) -> Frugality:
        """What is not kept."""
        again = self.options.memory == "recompute-feed-forward"
        return Frugality(norms=self.options.recompute_norms, feed_forward=again)

    def groups(self, names: Sequence[str]) -> list[tuple[str, ...]]:
        """Part layers that share an input by what they have in common."""
        kinds: dict[Any, list[str]] = {}
        for name in names:
            kinds.setdefault(self._kind(name), []).append(name)
        return [tuple(members) for members in kinds.values()]

    def projection(self, names: Sequence[str]) -> Projection:
        """Return layers as one projection, whose outputs come in the order of the names."""
        groups = [
            (self.made[members], [names.index(name) for name in members])
            for members in self.groups(names)
        ]
        return Projection(groups, self.frugality)

    def make(self, groups: Sequence[tuple[str, ...]], adapter: FlatAdapter) -> None:
        """Make groups, which `projection` then puts together."""
        for members in groups:
            layers = [cast("nn.Linear", self.modules[name]) for name in members]
            own = adapter if members[0] in self.layers else None
            as_integers = self.options.int8_compute
            self.made[members] = Projections(layers, own, members, as_integers=as_integers)

    def _kind(self, name: str) -> Any:
        layer = cast("nn.Linear", self.modules[name])
        adapted = self.layers.get(name)
        kind = (layer.in_features, layer.out_features, adapted.kind if adapted else None)
        return kind if self.options.group_projections else (*kind, name)


def list_groups(
    grouping: Grouping, blocks: Sequence[str], transformers: Sequence[str]
) -> tuple[list[tuple[str, ...]], list[str]]:
    """List all groups of layers, and those layers whose input is the caption, if it is shared."""
    sets: list[list[str]] = []
    texts: list[str] = []
    for block in blocks:
        attention = (QUERY_KEY_VALUE, (OUTPUT,), (TEXT_QUERY,), (TEXT_OUTPUT,))
        sets += [[f"{block}.{role}" for role in roles] for roles in attention]
        text = list_text_layers([block])
        if grouping.options.batch_text_projections:
            texts += text
        else:
            sets.append(text)
        sets += [[f"{block}.{role}"] for role in (FEED_IN, FEED_OUT)]
    sets += [[f"{name}.{end}"] for name in transformers for end in (ENTER, LEAVE)]
    if texts:
        sets.append(texts)
    return [members for names in sets for members in grouping.groups(names)], texts


def in_stack_order(
    grouping: Grouping, adapted: Sequence[tuple[str, ...]], adapter: FlatAdapter
) -> Iterator[Projections]:
    """Yield groups in the order in which their layers lie in the flat buffers."""
    by_first = {members[0]: members for members in adapted}
    for stack in adapter.stacks:
        for layer in stack.layers:
            if layer.name in by_first:
                yield grouping.made[by_first[layer.name]]
