"""Put together the weight change of a layer, once its factors are seen to fit it.

LoRA and LoCon: github.com/kohya-ss/sd-scripts, networks/lora.py.  LoHa, LoKr and written-out
changes: github.com/KohakuBlueleaf/LyCORIS 4.1.3, lycoris/modules/{loha,lokr,full}.py, by what they
train with (`forward`): their `get_diff_weight` applies the scale of LoHa and LoKr twice.
"""

from collections.abc import Sequence
from math import prod

from torch import Tensor

from rasengan_xl.adapters.changes import Dense, Difference, Hadamard, Kronecker, LowRank
from rasengan_xl.adapters.reading.faults import fault, shown
from rasengan_xl.adapters.reading.layer_keys import LayerKeys
from rasengan_xl.adapters.reading.raw import RawAdapter
from rasengan_xl.adapters.reading.roles import MAGNITUDES, Role
from rasengan_xl.errors import AdapterError

Shape = Sequence[int]


class LayerFactors:
    """The factors of one layer in a file."""

    def __init__(self, raw: RawAdapter, keys: LayerKeys) -> None:
        self._raw, self._keys = raw, keys
        self._left = set(keys.names) - {"alpha", *MAGNITUDES}

    def assemble(self, alpha: float | None, *, rank_stabilized: bool) -> Difference:
        """Recognise the kind of change, and make it.

        Args:
            alpha: None if it is the rank.
            rank_stabilized: Whether the scale is alpha over the root of the rank.

        Raises:
            AdapterError: A factor is missing, one too many, or of a shape that does not fit.
        """
        match min(self._left, default=None):
            case "diff":
                change = self._dense()
            case "down" | "mid" | "up":
                change = self._low_rank(alpha, rank_stabilized=rank_stabilized)
            case role if role and role.startswith("hada_"):
                change = self._hadamard(alpha)
            case role if role:
                change = self._kronecker(alpha)
            case _:
                raise self._fault("has no factors")
        if self._left:
            raise self._fault(f"has a factor too many ({min(self._left)})")
        return change

    def _dense(self) -> Dense:
        shape = self._keys.weight_shape
        self._fit("diff", shape)
        return Dense(change=self._take("diff").reshape(shape))

    def _low_rank(self, alpha: float | None, *, rank_stabilized: bool) -> LowRank:
        out, into, *kernel = self._keys.weight_shape
        ones = [1] * len(kernel)
        rank = self._shape("down")[0]
        inner = ones if "mid" in self._left else kernel
        self._fit("down", (rank, into, *inner))
        self._fit("up", (out, rank, *ones))
        if "mid" in self._left:
            self._fit("mid", (rank, rank, *kernel))
        return LowRank(
            down=self._take("down").reshape(rank, into, *inner),
            up=self._take("up").reshape(out, rank, *ones),
            mid=self._take("mid") if "mid" in self._left else None,
            alpha=float(rank) if alpha is None else alpha,
            rank_stabilized=rank_stabilized,
        )

    def _hadamard(self, alpha: float | None) -> Hadamard:
        out, into, *kernel = self._keys.weight_shape
        with_cores = "hada_t1" in self._left or "hada_t2" in self._left
        rank = self._shape("hada_w1_b")[0]
        sides: tuple[tuple[Role, Role, Role], ...] = (
            ("hada_w1_a", "hada_w1_b", "hada_t1"),
            ("hada_w2_a", "hada_w2_b", "hada_t2"),
        )
        for a, b, core in sides:
            self._fit(a, (rank, out) if with_cores else (out, rank))
            self._fit(b, (rank, into) if with_cores else (rank, into, *kernel), flat=True)
            if with_cores:
                self._fit(core, (rank, rank, *kernel))
        return Hadamard(
            first=(self._matrix("hada_w1_a"), self._matrix("hada_w1_b")),
            second=(self._matrix("hada_w2_a"), self._matrix("hada_w2_b")),
            cores=(self._take("hada_t1"), self._take("hada_t2")) if with_cores else None,
            alpha=float(rank) if alpha is None else alpha,
        )

    def _kronecker(self, alpha: float | None) -> Kronecker:
        out, into, *kernel = self._keys.weight_shape
        first = self._one_or_two("lokr_w1", "lokr_w1_a", "lokr_w1_b")
        rows, columns = self._shape(first[0])[0], self._shape(first[-1])[1]
        if out % rows or into % columns:
            raise self._misfit(first[0])
        rest = (out // rows, into // columns)
        with_core = "lokr_t2" in self._left
        second = self._one_or_two("lokr_w2", "lokr_w2_a", "lokr_w2_b")
        if len(first) == 2:
            self._fit(first[1], (self._shape(first[0])[1], columns))
        if len(second) == 1:
            self._fit(second[0], (*rest, *kernel), flat=True)
        else:
            rank = self._shape(second[1])[0]
            self._fit(second[0], (rank, rest[0]) if with_core else (rest[0], rank))
            inner = (rank, rest[1]) if with_core else (rank, rest[1], *kernel)
            self._fit(second[1], inner, flat=True)
            if with_core:
                self._fit("lokr_t2", (rank, rank, *kernel))
        inner_width = [self._shape(pair[1])[0] for pair in (second, first) if len(pair) == 2]
        return Kronecker(
            first=tuple(self._matrix(role) for role in first),
            second=tuple(self._matrix(role) for role in second),
            core=self._take("lokr_t2") if with_core else None,
            alpha=float(inner_width[0] if inner_width else 1) if alpha is None else alpha,
        )

    def _one_or_two(self, whole: Role, left: Role, right: Role) -> tuple[Role, ...]:
        return (whole,) if whole in self._left else (left, right)

    def _shape(self, role: Role) -> Shape:
        """Return a factor's shape, which has two axes at least."""
        if role not in self._keys.names:
            raise self._fault(f"lacks its factor {role}")
        shape = self._raw.shape(self._keys.names[role])
        if len(shape) < 2:
            raise self._misfit(role)
        return shape

    def _fit(self, role: Role, wanted: Shape, *, flat: bool = False) -> None:
        """Refuse a factor of another shape; axes of one at the end do not count.

        Args:
            role: Which factor.
            wanted: Its shape.
            flat: Whether everything behind the first axis may be one.
        """
        found = _trim(self._shape(role))
        fits = [_trim(wanted), _trim((wanted[0], prod(wanted[1:])))] if flat else [_trim(wanted)]
        if found not in fits:
            raise self._misfit(role)

    def _matrix(self, role: Role) -> Tensor:
        return self._take(role).flatten(1)

    def _take(self, role: Role) -> Tensor:
        self._left.discard(role)
        return self._raw.read(self._keys.names[role])

    def _misfit(self, role: Role) -> AdapterError:
        name = self._keys.names[role]
        return fault(
            self._raw.file,
            f"{shown(name)} is {list(self._raw.shape(name))}, which does not fit the layer's "
            f"weight of {list(self._keys.weight_shape)} and its other factors; "
            "give the base it was trained on",
        )

    def _fault(self, reason: str) -> AdapterError:
        return fault(self._raw.file, f"{shown(self._keys.layer)} {reason}; fetch the file again")


def _trim(shape: Shape) -> tuple[int, ...]:
    """Leave out axes of length one at the end: 1 x 1 kernels and linear layers are the same."""
    trimmed = list(shape)
    while len(trimmed) > 2 and trimmed[-1] == 1:
        trimmed.pop()
    return tuple(trimmed)
