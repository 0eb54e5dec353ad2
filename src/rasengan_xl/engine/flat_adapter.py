"""A low-rank adapter whose weights lie in one piece of memory.

One kernel then updates, clips, averages or copies all of it, however many layers there are.
Weights are kept in float32 and computed with in the base's precision: in a shadow of them that
is brought up to date after each optimizer step.  Layers of one shape lie behind one another, so
that a group of them is one matrix.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter

from rasengan_xl.engine.flat_layout import AdaptedLayer, lay_out


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRank:
    """The adapters of a group of layers, as views of the flat buffers."""

    rank: int
    scale: float
    down: Float[Tensor, "layer rank input"]
    """Matrices A, in the compute precision."""
    up: Float[Tensor, "layer output rank"]
    """Matrices B, in the compute precision."""
    gradients: Callable[[], tuple[Tensor, Tensor]]
    """Where backward adds to: the gradients of `down` and `up`, in the compute precision."""
    gain: Float[Tensor, " layer_output"] | None
    """DoRA's magnitude over the norm of the changed weight."""
    norm: Float[Tensor, " layer_output"] | None
    """That norm."""
    shift: Float[Tensor, " layer_output"] | None
    """What the gain would add to the bias, taken back: (1 - gain) times bias."""
    magnitude_gradient: Float[Tensor, " layer_output"] | None
    dropout: float

    @property
    def stacked_down(self) -> Float[Tensor, "layer_rank input"]:
        """The matrices A of all layers, one below the other."""
        return self.down.flatten(0, 1)


class FlatAdapter:
    """Weights, shadow and gradients of an adapter, each in one piece."""

    def __init__(
        self,
        groups: Sequence[Sequence[AdaptedLayer]],
        *,
        decompose: bool,
        dropout: float,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        """Lay out an adapter of zeros.

        Args:
            groups: Layers that are to lie behind one another; those of a group are of one kind.
            decompose: Whether there are magnitudes.
            dropout: Share of the adapter's inputs that is dropped while training.
            dtype: Compute precision.
            device: Where the base lies.
        """
        self.enabled = True
        self.dropout = dropout
        self.decompose = decompose
        self.stacks, sizes = lay_out(
            [layer for group in groups for layer in group], decompose=decompose
        )
        precise = torch.promote_types(torch.float32, dtype)
        self.weights = torch.zeros(sum(sizes), dtype=precise, device=device)
        self.gradients = torch.zeros_like(self.weights)
        factors = sizes[0] + sizes[1]
        is_apart = dtype != precise
        self._factors = self.weights[:factors]
        self.shadow = self._factors
        if is_apart:
            self.shadow = torch.zeros(factors, dtype=dtype, device=device)
        self._raw: Tensor | None = None
        self._is_apart = is_apart
        magnitudes = sizes[2]
        self.gain = torch.ones(magnitudes, dtype=precise, device=device)
        self.norm = torch.ones(magnitudes, dtype=precise, device=device)
        self.shift = torch.zeros(magnitudes, dtype=precise, device=device)
        starts = (0, sizes[0], factors)
        self.trained = {
            name: self._parameter(start, size)
            for name, start, size in zip(_SEGMENTS, starts, sizes, strict=True)
            if size
        }
        self._magnitude_offset = factors
        self._places = {
            layer.name: (stack, index)
            for stack in self.stacks
            for index, layer in enumerate(stack.layers)
        }

    @property
    def anchor(self) -> Parameter:
        """A parameter by which autograd knows that a product depends on the adapter.

        Its gradient is not autograd's business: backward writes it where it belongs.
        """
        return self.trained["lora_A"]

    def named_weights(self) -> dict[str, Tensor]:
        """Return each layer's weights by the names of PEFT's parameters; views, in float32."""
        return self.by_layer({name: p.detach() for name, p in self.trained.items()})

    def named_gradients(self) -> dict[str, Tensor]:
        """Return what `collect` has gathered, by the names of `named_weights`."""
        return self.by_layer({n: p.grad for n, p in self.trained.items() if p.grad is not None})

    def by_layer(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return views of values that lie as `trained` does, by the names of `named_weights`.

        What goes by other names is returned as it is.
        """
        others = {name: value for name, value in values.items() if name not in _SEGMENTS}
        return {**dict(self._named(values)), **others}

    def group(self, names: Sequence[str]) -> LowRank:
        """Return the adapters of layers that lie behind one another."""
        places = [self._places[name] for name in names]
        stack, first = places[0]
        rows = slice(first, first + len(names))
        assert all(each is stack for each, _ in places)
        assert [index for _, index in places] == list(range(rows.start, rows.stop))
        one = stack.layers[0]
        gain = norm = shift = magnitude_gradient = None
        if self.decompose:
            own = self.gradients[self._magnitude_offset :]
            magnitude_gradient = stack.magnitude(own)[rows].flatten()
            gain = stack.magnitude(self.gain)[rows].flatten()
            norm = stack.magnitude(self.norm)[rows].flatten()
            shift = stack.magnitude(self.shift)[rows].flatten()
        return LowRank(
            rank=one.rank,
            scale=one.scale,
            down=stack.down(self.shadow)[rows],
            up=stack.up(self.shadow)[rows],
            gradients=lambda: (stack.down(self._fresh())[rows], stack.up(self._fresh())[rows]),
            gain=gain,
            norm=norm,
            shift=shift,
            magnitude_gradient=magnitude_gradient,
            dropout=self.dropout,
        )

    def magnitudes(self) -> Float[Tensor, " magnitude"]:
        """Return DoRA's magnitudes, in the order of `gain` and `norm`."""
        return self.weights[self._magnitude_offset :]

    @torch.no_grad()
    def collect(self) -> None:
        """Add what backward has left in the compute precision to the gradients in float32."""
        raw, self._raw = self._raw, None
        if raw is not None:
            self.gradients[: raw.numel()].add_(raw)

    def abandon(self) -> None:
        """Forget what a backward pass that broke off has left uncollected."""
        self._raw = None

    @torch.no_grad()
    def clear_gradients(self) -> None:
        """Begin a new step."""
        self.abandon()
        self.gradients.zero_()

    @torch.no_grad()
    def cast(self) -> None:
        """Bring the shadow up to date."""
        if self._is_apart:
            self.shadow.copy_(self._factors)

    def _fresh(self) -> Tensor:
        """Return where gradients are added up in the compute precision.

        There is such a place from the first of a backward pass to `collect` only: by the time
        it is needed, most of what the forward pass kept is gone.
        """
        if not self._is_apart:
            return self.gradients[: self.shadow.numel()]
        if self._raw is None:
            self._raw = torch.zeros_like(self.shadow)
        return self._raw

    def _parameter(self, start: int, size: int) -> Parameter:
        parameter = Parameter(self.weights[start : start + size])
        parameter.grad = self.gradients[start : start + size]
        return parameter

    def _named(self, values: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        skipped = self.trained[_DOWN].numel()
        for name, (stack, index) in self._places.items():
            if _DOWN in values:
                yield f"{name}.{_DOWN}.default.weight", stack.down(values[_DOWN])[index]
            if _UP in values:
                yield f"{name}.{_UP}.default.weight", stack.up(values[_UP], skipped)[index]
            if _MAGNITUDE in values:
                own = stack.magnitude(values[_MAGNITUDE])[index]
                yield f"{name}.{_MAGNITUDE}.default.weight", own


_SEGMENTS = _DOWN, _UP, _MAGNITUDE = ("lora_A", "lora_B", "lora_magnitude_vector")
