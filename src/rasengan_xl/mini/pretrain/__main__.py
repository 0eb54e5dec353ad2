"""``python -m rasengan_xl.mini.pretrain``: rebuild mini SDXL from nothing."""

import argparse
import logging
from pathlib import Path

import torch
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from rasengan_xl.mini.pretrain.stages import pretrain


def main() -> None:
    """Parse the arguments, train every stage with a progress bar, say where the model is."""
    parser = argparse.ArgumentParser(
        prog="python -m rasengan_xl.mini.pretrain", description=__doc__
    )
    parser.add_argument("--out", type=Path, required=True, help="diffusers folder to write")
    parser.add_argument(
        "--work", type=Path, default=Path("pretrain"), help="pictures and checkpoints, kept"
    )
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    arguments = parser.parse_args()

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, refresh_per_second=0.5) as progress:
        handler = RichHandler(console=progress.console, show_path=False)
        logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
        tasks: dict[str, TaskID] = {}
        for record in pretrain(arguments.work, arguments.out, arguments.device):
            if record.stage not in tasks:
                tasks[record.stage] = progress.add_task(record.stage, total=record.steps, loss=0.0)
            progress.update(tasks[record.stage], completed=record.step, loss=record.loss)
        progress.console.print(f"mini SDXL is in {arguments.out}")


if __name__ == "__main__":
    main()
