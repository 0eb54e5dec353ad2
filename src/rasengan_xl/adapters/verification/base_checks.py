"""Whether an adapter works on the base it sits on, and has left that base alone."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rasengan_xl.adapters.adapter import Adapter
from rasengan_xl.adapters.verification.attachment import Attachment
from rasengan_xl.adapters.verification.block_inputs import Gap, allowed_share
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
    adapter: Adapter,
    before: BaseFingerprint,
    attached: Attachment,
    measured: Sequence[LayerChange],
    compute: Compute,
) -> list[Check]:
    """Check that the base is as it was, and that the adapter shows in what it computes.

    Args:
        adapter: On its base.
        before: Taken of the base before the adapter was attached.
        attached: Taken right after.
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
        _check_gap("base output", attached.base_gap, adapter, compute, is_exact=False),
        _check_gap(
            "fresh adapter", attached.fresh_gap, adapter, compute, is_exact=attached.is_exact
        ),
        _check_effect(disabled, adapted, measured, compute),
        _check_restored(attached.disabled, disabled, adapted),
    ]


def _check_gap(name: str, gap: Gap, adapter: Adapter, compute: Compute, *, is_exact: bool) -> Check:
    """Check that layers that the base was rebuilt of compute what its own did."""
    allowed = allowed_share(compute.dtype, as_integers=adapter.options.int8_compute)
    precision = str(compute.dtype).removeprefix("torch.")
    off = f"off by up to {gap.share:.2g} from one block to the next ({gap.place})"
    bound = f"{allowed:.2g}, what rounding in {precision} leaves open"
    found = f"no more than {off}: within {bound}" if gap.share else "the same, to the bit"
    fault = "" if gap.share <= allowed else f"{off}, more than {bound}"
    exactly = "; with it the output was the base's, to the bit" if is_exact else ""
    return outcome(name, fault, f"{found}{exactly}", share=gap.share, allowed=allowed)


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
