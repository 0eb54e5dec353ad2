"""The adapter inside a checkpoint of a run, which holds the optimizer's memory besides."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from rasengan_xl.adapters.files import describe_adapter, file_key
from rasengan_xl.adapters.peft_adapter import lora_config
from rasengan_xl.errors import AdapterError
from rasengan_xl.runs.folder import ADAPTER_FILE, RunFolder
from rasengan_xl.tensor_file import UNREADABLE, TensorFile, read_header, write_tensors

# As training/state.py writes them, which lies beside this layer.
_ADAPTER, _AVERAGE, _STATE = "adapter.", "average.", "training_state"
_TRAIN_MODE = "/train_mode"


@contextmanager
def adapter_of_checkpoint(file: Path) -> Generator[Path]:
    """Write what a checkpoint gives out as an adapter's file, for as long as the block goes on.

    That is the weights' average over steps where the run keeps one.

    Raises:
        AdapterError: The checkpoint is damaged, or of schedule-free AdamW, which works out what
            it gives out only when it is asked.
    """
    header = _describe(RunFolder(file.parent.parent))
    with TemporaryDirectory() as place:
        out = Path(place, ADAPTER_FILE)
        write_tensors(out, _given_out(file), header)
        yield out


def _describe(folder: RunFolder) -> dict[str, str]:
    """Return the header of the run's adapter: rank and alpha are the same at all steps.

    A run that was broken off may have none as yet; its settings say the same.
    """
    if folder.adapter_file.is_file():
        return read_header(folder.adapter_file)
    return describe_adapter(lora_config(folder.read_settings().adapter))


def _given_out(file: Path) -> dict[str, Tensor]:
    try:
        content = TensorFile(file)
        state: dict[str, Any] = json.loads(content.header[_STATE])
        names = [name for name in content.names if name.startswith(_ADAPTER)]
        averages = set(content.names)
        tensors = {
            f"unet.{file_key(name.removeprefix(_ADAPTER))}": content.read(
                _averaged(name) if _averaged(name) in averages else name
            )
            for name in names
        }
    except (*UNREADABLE, KeyError, ValueError) as error:
        raise AdapterError(f"{file}: is not a whole checkpoint; leave it out") from error
    if any(path.endswith(_TRAIN_MODE) for path in state["optimizer"]):
        raise AdapterError(
            f"{file}: schedule-free AdamW gives out other weights than a checkpoint holds; draw "
            "with the run's folder, or its best/"
        )
    return tensors


def _averaged(name: str) -> str:
    return f"{_AVERAGE}{name.removeprefix(_ADAPTER)}"
