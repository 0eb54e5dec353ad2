"""Put our own layers into a UNet, in place of those of diffusers that they compute faster."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from rasengan_xl.engine.caption_columns import (
    TEXT_KEY_VALUE,
    fits,
    lay_out_columns,
    list_blocks,
)
from rasengan_xl.engine.convolutional_half import rebuild_convolutions
from rasengan_xl.engine.decomposition import Decomposition
from rasengan_xl.engine.feed_forward import FeedForward, KeepingFeedForward
from rasengan_xl.engine.flat_adapter import FlatAdapter
from rasengan_xl.engine.flat_layout import AdaptedLayer
from rasengan_xl.engine.frozen_linear import replace_linears
from rasengan_xl.engine.grouping import (
    ENTER,
    FEED_IN,
    FEED_OUT,
    LEAVE,
    OUTPUT,
    QUERY_KEY_VALUE,
    TEXT_OUTPUT,
    TEXT_QUERY,
    Grouping,
    in_stack_order,
    list_groups,
)
from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.engine.projecting import Projection
from rasengan_xl.engine.text_projections import TextProjections
from rasengan_xl.engine.transformer_block import (
    BlockParts,
    TextSource,
    Transformer,
    TransformerBlock,
)
from rasengan_xl.engine.weights import reserve_scratch


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What all layers of an adapter have in common."""

    decompose: bool
    dropout: float
    dtype: torch.dtype
    device: torch.device


@dataclass(slots=True, kw_only=True)
class Rebuilt:
    """An adapter that is computed by our own layers."""

    adapter: FlatAdapter
    decomposition: Decomposition | None

    def settle(self) -> None:
        """Compute with the weights as they are now, after they were changed."""
        self.adapter.cast()
        if self.decomposition is not None:
            self.decomposition.refresh()


def rebuild(
    unet: UNet2DConditionModel,
    layers: Mapping[str, AdaptedLayer],
    options: EngineOptions,
    shape: Shape,
) -> Rebuilt:
    """Put our own layers into a UNet, with a fresh adapter of zeros but for DoRA's magnitudes.

    Args:
        unet: Frozen, on its device, in its precision; changed in place.
        layers: The adapter's, by their names in the UNet; linear ones.
        options: How to compute.
        shape: Of the adapter.
    """
    modules: dict[str, nn.Module] = dict(cast("Any", unet).named_modules())
    if cast("Any", unet).encoder_hid_proj is not None:  # blocks are not given the caption itself
        options = replace(options, batch_text_projections=False)
    grouping = Grouping(modules=modules, layers=layers, options=options)
    blocks = list_blocks(unet)
    transformers = [
        name
        for name, module in modules.items()
        if isinstance(module, Transformer2DModel) and _is_linear(module)
    ]
    groups, texts = list_groups(grouping, blocks, transformers)
    placed = {name for members in groups for name in members}
    alone = [(name,) for name in layers if name not in placed]
    groups += alone
    adapted = [members for members in groups if members[0] in layers]
    adapter = FlatAdapter(
        [[layers[name] for name in members] for members in adapted],
        decompose=shape.decompose,
        dropout=shape.dropout,
        dtype=shape.dtype,
        device=shape.device,
    )
    reserve_scratch(unet)
    grouping.make(groups, adapter)
    shared = _share_texts(grouping, texts, unet)
    for name in blocks:
        _replace(unet, name, _build_block(grouping, name, shared, texts))
    for name in transformers:
        enter, leave = (grouping.projection([f"{name}.{end}"]) for end in (ENTER, LEAVE))
        _replace(unet, name, Transformer(modules[name], enter, leave))
    for (name,) in alone:
        _replace(unet, name, Alone(modules[name], grouping.projection([name])))
    replace_linears(unet, as_integers=options.int8_compute)
    rebuild_convolutions(unet, options)
    decomposition = None
    if shape.decompose:
        decomposition = Decomposition(adapter, list(in_stack_order(grouping, adapted, adapter)))
    return Rebuilt(adapter=adapter, decomposition=decomposition)


def is_rebuilt(unet: UNet2DConditionModel) -> bool:
    """Tell whether a UNet computes by our own layers already."""
    modules: Iterator[nn.Module] = cast("Any", unet).modules()
    return any(isinstance(m, TransformerBlock | Transformer | Alone) for m in modules)


class Alone(nn.Module):
    """An adapted layer that shares its input with no other."""

    def __init__(self, base_layer: nn.Module, projection: Projection) -> None:
        """Take over a layer."""
        super().__init__()
        self.base_layer = base_layer
        self._projection = projection
        self.train(base_layer.training)

    def forward(self, given: Tensor) -> Tensor:
        """Compute the layer with its adapter."""
        return self._projection(given, training=self.training)[0]

    @property
    def draws_by_chance(self) -> bool:
        """Whether the adapter's dropout is at work."""
        return self.training and self._projection.draws_by_chance


def _share_texts(
    grouping: Grouping, texts: Sequence[str], unet: nn.Module
) -> TextProjections | None:
    if not texts:
        return None
    groups = grouping.groups(texts)
    projections = [grouping.projection(members) for members in groups]
    places = [[texts.index(name) for name in members] for members in groups]
    columns = lay_out_columns(
        {name: cast("nn.Linear", grouping.modules[name]).out_features for name in texts}
    )
    shared = TextProjections(projections, places, [columns[name] for name in texts])
    shared.watch(unet)
    return shared


def _build_block(
    grouping: Grouping, name: str, shared: TextProjections | None, texts: Sequence[str]
) -> TransformerBlock:
    def project(*roles: str) -> Projection:
        return grouping.projection([f"{name}.{role}" for role in roles])

    block: Any = grouping.modules[name]
    options = grouping.options
    if shared is None:
        text = TextSource(shared=None, own=project(*TEXT_KEY_VALUE))
    else:
        key, value = (texts.index(f"{name}.{role}") for role in TEXT_KEY_VALUE)
        text = TextSource(shared=shared, places=(key, value))
    parts = BlockParts(
        to_query_key_value=project(*QUERY_KEY_VALUE),
        to_output=project(OUTPUT),
        to_query=project(TEXT_QUERY),
        text=text,
        to_text_output=project(TEXT_OUTPUT),
        feed_forward=_build_feed_forward(grouping, name, project),
        heads=block.attn1.heads,
        kernel=options.attention,
    )
    return TransformerBlock(block, parts, recompute=options.memory == "recompute-all")


def _build_feed_forward(
    grouping: Grouping, name: str, project: Any
) -> FeedForward | KeepingFeedForward:
    frugality = grouping.frugality
    if not (grouping.options.lean_feed_forward or frugality.feed_forward):
        return KeepingFeedForward(project(FEED_IN), project(FEED_OUT))
    first, second = (grouping.made[(f"{name}.{role}",)] for role in (FEED_IN, FEED_OUT))
    return FeedForward(first, second, frugality)


def _is_linear(transformer: Transformer2DModel) -> bool:
    part: Any = transformer
    return part.use_linear_projection and all(fits(block) for block in part.transformer_blocks)


def _replace(unet: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(unet.get_submodule(parent), child, module)
