"""In which precision numbers stored in 16 bits are computed."""

import torch


def computing_dtype(stored: torch.dtype) -> torch.dtype:
    """Return float32 for 16-bit numbers, and wider ones as they are."""
    return torch.promote_types(stored, torch.float32)
