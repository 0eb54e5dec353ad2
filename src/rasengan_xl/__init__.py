"""Fine-tune SDXL on a picture style with LoRA, QLoRA and DoRA, and compare the methods."""

from typing import TYPE_CHECKING, Any

from rasengan_xl.errors import RasenganError

if TYPE_CHECKING:
    from rasengan_xl.api import compare, export, generate, prepare, train, verify, write_report

__all__ = [
    "RasenganError",
    "compare",
    "export",
    "generate",
    "prepare",
    "train",
    "verify",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Import the verbs when one is asked for: PyTorch takes seconds to import."""
    if name not in __all__:
        raise AttributeError(f"module 'rasengan_xl' has no attribute {name!r}")
    from rasengan_xl import api

    return getattr(api, name)
