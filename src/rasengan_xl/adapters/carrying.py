"""Carry an adapter over to a base that is stored otherwise than the one it was trained on.

What DoRA trains is a gain, m / ||W + s B A||, of the weight W as it was stored then.  Where W is
at hand in full, `Decomposed.gain` rounds it so again.  Where it will be rounded otherwise, to
fewer bits or to another type of 16, the magnitudes are changed beforehand, so that the gain stays
the same.  LoRA needs nothing of it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import torch

from rasengan_xl.adapters.changes import Change, Decomposed, Weight, of_compute
from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.adapters.decomposition import Decomposition
from rasengan_xl.adapters.writing.plain import meant_as
from rasengan_xl.config.base_precisions import STORAGES, BasePrecision, Precision, Storage

_UNET = "unet."


def carry_over(
    contents: AdapterContents,
    precision: BasePrecision,
    dtype: torch.dtype,
    weight_of: Callable[[str], Weight],
) -> AdapterContents:
    """Return an adapter whose magnitudes fit a base of some precision.

    Args:
        contents: For any base.
        precision: Of the base that the adapter will be put on.
        dtype: What that base computes in.
        weight_of: Reads a layer's weight as it lies on the disk.
    """
    storage = STORAGES[precision]
    computed = cast("Precision", str(dtype).removeprefix("torch."))
    carried: dict[str, Change] = {}
    for name, change in contents.changes.items():
        if not name.startswith(_UNET) or not isinstance(change, Decomposed):
            continue
        if not _takes(change, storage, computed):
            fitted = _fit(change, weight_of(name), storage, computed)
            carried |= {} if fitted is change else {name: fitted}
    if not carried:
        return contents
    note = (
        f"{len(carried):,} layers of DoRA were trained on a base stored otherwise: their "
        f"magnitudes are fitted to {storage.title}, each row's gain stays as trained"
    )
    changes = {**contents.changes, **carried}
    return replace(contents, changes=changes, notes=(*contents.notes, note))


def _takes(change: Decomposed, storage: Storage, computed: Precision) -> bool:
    """Tell whether a base has the weights of which a norm was taken, or can round its own so."""
    if change.stored == storage.linears:
        return change.stored == "compute" or change.precision == computed
    is_in_full = computed in ("float32", "float64")
    return storage.linears == "compute" and (is_in_full or change.precision == computed)


def _fit(change: Decomposed, weight: Weight, storage: Storage, computed: Precision) -> Decomposed:
    """Change magnitudes so that the gain stays, on a layer as a base precision stores it."""
    store = storage.linears if weight.dim() == 2 else storage.convolutions
    there = Decomposition(
        norm_of=change.norm_of,
        epsilon=change.epsilon,
        stored=store,
        precision="float32" if store == "compute" else computed,
    )
    return meant_as(change, weight.float(), there)


def as_written(contents: AdapterContents) -> AdapterContents:
    """Return an adapter as a program reads it that knows nothing of how bases are stored."""
    changes = {
        name: of_compute(c) if isinstance(c, Decomposed) else c
        for name, c in contents.changes.items()
    }
    return replace(contents, changes=changes)


def is_for_rounded(contents: AdapterContents) -> bool:
    """Tell whether magnitudes are of a base that was stored in fewer bits."""
    changes = contents.changes.values()
    return any(isinstance(each, Decomposed) and each.stored != "compute" for each in changes)
