"""Whether an adapter works on the base it sits on, and has left that base alone."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rasengan_xl.adapters.adapter import Adapter
from rasengan_xl.adapters.verification.effects import check_effect
from rasengan_xl.adapters.verification.fingerprint import BaseFingerprint, computed_output
from rasengan_xl.adapters.verification.outcomes import first_of, noted, outcome, plural
from rasengan_xl.adapters.verification.probe import compare_outputs
from rasengan_xl.runs.verification import Check, LayerChange
from rasengan_xl.sdxl.compute import Compute

TRACE = 0.01
"""Of what the adapter changes: what a GPU that computes a little differently each time may leave
between two outputs of the base.  Its weights are compared to the bit."""


def check_base(
    adapter: Adapter, before: BaseFingerprint, measured: Sequence[LayerChange], compute: Compute
) -> list[Check]:
    """Check that the base is as it was, and that the adapter shows in what it computes.

    Args:
        adapter: On its base.
        before: Taken of the base before the adapter was attached.
        measured: How far the adapter moves each layer.
        compute: What the adapter was trained with.
    """
    changed = before.find_changed(adapter.unet)
    fault = f"{plural(len(changed), 'weight')} changed: {first_of(changed)}" if changed else ""
    adapted = computed_output(adapter.unet, compute)
    with adapter.disabled():
        disabled = computed_output(adapter.unet, compute)
    return [
        outcome("base weights", fault, f"all {plural(len(before.sums), 'weight')} are as before"),
        _check_effect(disabled, adapted, measured, compute),
        _check_restored(before.output, disabled, adapted),
    ]


def _check_effect(
    base: Tensor, adapted: Tensor, measured: Sequence[LayerChange], compute: Compute
) -> Check:
    most = max((layer.relative or 0.0 for layer in measured), default=0.0)
    if torch.equal(base, adapted) and 0 < most < torch.finfo(compute.dtype).eps:
        precision = str(compute.dtype).removeprefix("torch.")
        return noted("output changed", f"weights have moved by less than {precision} can show")
    return check_effect("output changed", base, adapted, least=0.0)


def _check_restored(before: Tensor, disabled: Tensor, adapted: Tensor) -> Check:
    if torch.equal(before, disabled):
        return outcome("output restored", "", "disabled, the base computes the same, to the bit")
    gap, effect = compare_outputs(before, disabled), compare_outputs(before, adapted)
    off = gap.size / effect.size if effect.size else math.inf
    detail = f"disabled, the base is off by {off:.2g} of what the adapter changes"
    figures = {"share": gap.share, "largest": gap.largest}
    if off <= TRACE:
        return noted("output restored", f"{detail}: no more than a device may vary", **figures)
    return outcome("output restored", detail, "", **figures)
