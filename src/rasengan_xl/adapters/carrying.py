"""Carry an adapter over to a base that is stored otherwise than the one it was trained on.

What DoRA trains is a gain, m / ||W + s B A||, of the weight W as it was stored then.  Where W is
at hand in full, `Decomposed.gain` rounds it so again.  Where only a rounded one will be, the
magnitudes are changed beforehand, so that the gain stays the same.  LoRA needs nothing of it.
"""

from collections.abc import Callable
from dataclasses import replace

from rasengan_xl.adapters.changes import Change, Decomposed, Weight
from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.adapters.decomposition import Decomposition
from rasengan_xl.adapters.writing.plain import meant_as
from rasengan_xl.config.base_precisions import STORAGES, BasePrecision, Store

_UNET = "unet."


def carry_over(
    contents: AdapterContents, precision: BasePrecision, weight_of: Callable[[str], Weight]
) -> AdapterContents:
    """Return an adapter whose magnitudes fit a base of some precision.

    Args:
        contents: For any base.
        precision: Of the base that the adapter will be put on; in full it stays as it is.
        weight_of: Reads a layer's weight as it lies on the disk.
    """
    store = STORAGES[precision].linears
    if store == "compute":
        return contents
    carried = {
        name: _carried(change, store, weight_of(name))
        for name, change in contents.changes.items()
        if name.startswith(_UNET) and _is_for_other(change, store)
    }
    if not carried:
        return contents
    note = (
        f"{len(carried):,} layers of DoRA were trained on a base stored otherwise: their "
        f"magnitudes are fitted to {STORAGES[precision].title}, each row's gain stays as trained"
    )
    changes = {**contents.changes, **carried}
    return replace(contents, changes=changes, notes=(*contents.notes, note))


def as_written(contents: AdapterContents) -> AdapterContents:
    """Return an adapter as a program reads it that knows nothing of how bases are stored."""
    changes = {
        name: replace(c, stored="compute") if isinstance(c, Decomposed) else c
        for name, c in contents.changes.items()
    }
    return replace(contents, changes=changes)


def is_for_rounded(contents: AdapterContents) -> bool:
    """Tell whether magnitudes are of a base that was stored in fewer bits."""
    return any(_is_for_other(change, "compute") for change in contents.changes.values())


def _is_for_other(change: Change, store: Store) -> bool:
    return isinstance(change, Decomposed) and change.stored != store


def _carried(change: Change, store: Store, weight: Weight) -> Change:
    assert isinstance(change, Decomposed)
    there = Decomposition(norm_of=change.norm_of, epsilon=change.epsilon, stored=store)
    return meant_as(change, weight.float(), there)
