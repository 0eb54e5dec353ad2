"""Keep libraries from writing over the progress that this command shows."""

import logging
import os

_TALKATIVE = ("bitsandbytes", "datasets", "diffusers", "transformers", "huggingface_hub")


def quieten_libraries() -> None:
    """Let libraries report errors only, and draw no progress bars of their own."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    from datasets.utils.logging import disable_progress_bar as quieten_datasets
    from diffusers.utils.logging import disable_progress_bar as quieten_diffusers
    from diffusers.utils.logging import set_verbosity_error as silence_diffusers
    from transformers.utils.logging import disable_progress_bar as quieten_transformers
    from transformers.utils.logging import set_verbosity_error as silence_transformers

    for act in (
        quieten_datasets,
        quieten_diffusers,
        quieten_transformers,
        silence_diffusers,
        silence_transformers,
    ):
        act()
