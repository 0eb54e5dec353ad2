"""Loading of libraries that stay until the process ends, without a search for garbage in them."""

import gc
import sys
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def loading() -> Generator[None]:
    """Import within: the collector rests meanwhile, and never looks at what came in.

    Torch and diffusers are a million objects; searching them over and over, and once more when the
    process ends, takes as long as half of what loading them takes.  For the first lines of a
    process of ours, not for a library's import: what the process held before is kept for ever too.
    """
    was_enabled, loaded_before = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > loaded_before:
            gc.freeze()
        if was_enabled:
            gc.enable()
