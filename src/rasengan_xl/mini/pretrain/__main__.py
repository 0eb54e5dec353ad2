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

from rasengan_xl.mini import MODEL_FOLDER
from rasengan_xl.mini.pretrain.reader_stage import build_reader
from rasengan_xl.mini.pretrain.stages import pretrain


def main() -> None:
    """Train every stage with a progress bar, then say where the outcome is."""
    arguments = _parse_arguments()
    work, out, device = arguments.work, arguments.out, arguments.device
    if arguments.only == "reader":
        stages = build_reader(work, MODEL_FOLDER, out, device)
        outcome = f"the attribute reader is in {out / 'reader'}"
    else:
        stages, outcome = pretrain(work, out, device), f"mini SDXL is in {out}"

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
        for record in stages:
            if record.stage not in tasks:
                tasks[record.stage] = progress.add_task(record.stage, total=record.steps, loss=0.0)
            progress.update(tasks[record.stage], completed=record.step, loss=record.loss)
        progress.console.print(outcome)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m rasengan_xl.mini.pretrain", description=__doc__
    )
    parser.add_argument("--out", type=Path, required=True, help="diffusers folder to write")
    parser.add_argument(
        "--work", type=Path, default=Path("pretrain"), help="pictures and checkpoints, kept"
    )
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument(
        "--only",
        choices=["reader"],
        help="train this part alone, on the VAE that ships, and write it to its folder in --out",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
