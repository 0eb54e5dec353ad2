"""What a base precision means: how a frozen UNet's weights are stored, and its name."""

from dataclasses import dataclass
from typing import Literal

BasePrecision = Literal["full", "nf4", "nf4-small", "int8"]

Store = Literal["compute", "nf4", "int8"]
"""In the compute precision; 4-bit NF4 with doubly quantized scales (arXiv:2305.14314, section 3);
or 8-bit whole numbers with one scale for each output (arXiv:2208.07339, section 2.1)."""

Precision = Literal["float64", "float32", "bfloat16", "float16"]
"""That a frozen layer computes in, by PyTorch's names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """How a frozen UNet is stored."""

    linears: Store
    convolutions: Store
    """All but the first and the last."""
    title: str
    """In a table: `frozen base: ...`."""
    is_qlora: bool = False
    """Whether the literature calls adapters on it by a Q: their base is in 4 bits."""

    @property
    def is_quantized(self) -> bool:
        """Whether weights are rounded beyond the compute precision."""
        return self.linears != "compute" or self.convolutions != "compute"


STORAGES: dict[BasePrecision, Storage] = {
    "full": Storage(linears="compute", convolutions="compute", title="compute precision"),
    "nf4": Storage(linears="nf4", convolutions="compute", title="4-bit NF4", is_qlora=True),
    "nf4-small": Storage(
        linears="nf4",
        convolutions="int8",
        title="4-bit NF4, its convolutions 8-bit int8",
        is_qlora=True,
    ),
    "int8": Storage(linears="int8", convolutions="int8", title="8-bit int8"),
}
