"""Where everything that can be made anew is kept between runs."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder for encoded data: `RASENGAN_CACHE`, or the user's cache folder."""
    told = os.environ.get("RASENGAN_CACHE")
    if told:
        return Path(told)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "rasengan-xl"
