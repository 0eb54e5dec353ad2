"""Keep libraries from writing over what this command shows."""

import logging
import os

_TALKATIVE = ("bitsandbytes", "datasets", "diffusers", "transformers", "huggingface_hub")


def quieten_imports() -> None:
    """Let libraries report errors only; to be called before any of them is imported."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)


def quieten_progress_bars() -> None:
    """Let libraries draw no progress bars of their own."""
    from datasets.utils.logging import disable_progress_bar as quieten_datasets
    from diffusers.utils.logging import disable_progress_bar as quieten_diffusers
    from transformers.utils.logging import disable_progress_bar as quieten_transformers

    quieten_datasets()
    quieten_diffusers()
    quieten_transformers()
