"""Whether an adapter shows in what a model computes."""

from torch import Tensor

from rasengan_xl.adapters.verification.outcomes import outcome
from rasengan_xl.adapters.verification.probe import ROUNDING, compare_outputs
from rasengan_xl.runs.verification import Check


def check_effect(name: str, base: Tensor, adapted: Tensor, least: float = ROUNDING) -> Check:
    """Check that an adapter changes what is computed, to something finite.

    Args:
        name: Of the check.
        base: What is computed without it.
        adapted: What is computed with it.
        least: Share of the base's output that the change must exceed.
    """
    effect = compare_outputs(base, adapted)
    fault = ""
    if not adapted.isfinite().all():
        fault = "with the adapter the base computes NaN or infinity"
    elif effect.share <= least:
        fault = "with the adapter the base computes the same as without"
    found = f"by {effect.share:.2%} of the base's"
    return outcome(name, fault, found, share=effect.share, largest=effect.largest)
