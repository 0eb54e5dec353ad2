"""A witness of a base that an adapter has just been put on: does it still compute the same?"""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from rasengan_xl.adapters.adapter import Adapter
from rasengan_xl.adapters.verification.block_inputs import Gap, compared
from rasengan_xl.adapters.verification.fingerprint import BaseFingerprint, computed_output
from rasengan_xl.adapters.verification.probe import Output, compare_outputs
from rasengan_xl.sdxl.compute import Compute


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """What a base computes with a fresh adapter on it, in layers that are no longer its own."""

    disabled: Output
    """Without the adapter."""
    base_gap: Gap
    """Between that and the base before."""
    fresh_gap: Gap
    """Between the base before and the fresh adapter's, which should change nothing."""
    is_exact: bool
    """Whether with the fresh adapter the output is that without it, to the bit."""


def witness_attachment(adapter: Adapter, before: BaseFingerprint, compute: Compute) -> Attachment:
    """Look at a base right after a fresh adapter was attached.

    Args:
        adapter: As yet changes nothing.
        before: Taken of the base before.
        compute: What the adapter will be trained with.
    """
    with adapter.disabled():
        disabled = computed_output(adapter.unet, compute)
    return Attachment(
        disabled=disabled,
        base_gap=_find_gap(adapter, before, compute, adapter.disabled()),
        fresh_gap=_find_gap(adapter, before, compute, nullcontext()),
        is_exact=torch.equal(computed_output(adapter.unet, compute), disabled),
    )


def _find_gap(
    adapter: Adapter,
    before: BaseFingerprint,
    compute: Compute,
    state: AbstractContextManager[None],
) -> Gap:
    with state, compared(adapter.unet, before.block_inputs) as found:
        output = computed_output(adapter.unet, compute)
    shares = {name: found.get(name, math.inf) for name in before.block_inputs}
    shares["output"] = compare_outputs(before.output, output).share
    # NaN is no number that is less than another.
    place = max(shares, key=lambda name: math.inf if math.isnan(shares[name]) else shares[name])
    return Gap(share=shares[place], place=place)
