"""The stage that builds the attribute reader: draw, train, write, and measure how well it reads."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from rasengan_xl.mini.pretrain import reader
from rasengan_xl.mini.pretrain.pictures import (
    FIRST_HELD_OUT_SEED,
    FIRST_TRAINING_SEED,
    Subject,
    answer_questions,
    choose_subjects,
    draw_pictures,
)
from rasengan_xl.mini.pretrain.progress import StageProgress, follow_stage
from rasengan_xl.mini.reader.loading import ACCURACY_NAME, WEIGHTS_NAME, load_reader
from rasengan_xl.mini.reader.network import QUESTIONS, ReaderNetwork
from rasengan_xl.mini.world.hands import HANDS
from rasengan_xl.tensor_file import digest_tensors, read_tensors, write_tensors
from rasengan_xl.whole_file import write_whole

READER_PICTURES = {
    "plain": 12_000,
    "shinobi": 10_000,
    "pencil": 3_000,
    "watercolour": 3_000,
    "poster": 3_000,
}
HELD_OUT_PICTURES_PER_STYLE = 1_000

logger = logging.getLogger(__name__)


def build_reader(
    work: Path, model: Path, out: Path, device: torch.device
) -> Iterator[StageProgress]:
    """Train the attribute reader and measure it on portraits that it has never seen.

    Args:
        work: Folder for pictures and checkpoints (about 1 GB).
        model: Diffusers folder whose VAE redraws the pictures.
        out: Where the folder `reader` is written: weights in float16, and the accuracy.
        device: Where to train.
    """
    vae = cast("Any", AutoencoderKL).from_pretrained(model / "vae").to(device)
    # What was redrawn by one VAE, and trained on that, is of no use to another.
    kept = work / f"reader-{digest_tensors(vae.state_dict())[:8]}"
    kept.mkdir(parents=True, exist_ok=True)
    subjects = choose_subjects(READER_PICTURES, FIRST_TRAINING_SEED)
    drawn = torch.from_numpy(draw_pictures(subjects, kept / "drawn.npy"))
    redrawn = _redraw_once(vae, drawn, kept / "redrawn.safetensors")
    portraits = reader.ReaderPortraits(drawn=drawn, redrawn=redrawn, answers=_answer(subjects))
    torch.manual_seed(reader.SETTINGS.seed)
    network = ReaderNetwork().to(device)
    steps = reader.train_reader(network, portraits, kept / "state.safetensors", reader.SETTINGS)
    yield from follow_stage("reader", reader.SETTINGS.steps, steps)

    folder = out / "reader"
    folder.mkdir(parents=True, exist_ok=True)
    halves = {name: value.half() for name, value in network.state_dict().items()}
    write_tensors(folder / WEIGHTS_NAME, halves)
    accuracy = measure_reader(load_reader(device, folder).network, vae)
    write_whole(folder / ACCURACY_NAME, json.dumps(accuracy, indent=2))


def measure_reader(network: ReaderNetwork, vae: AutoencoderKL) -> dict[str, Any]:
    """Return what `accuracy.json` holds: shares of portraits read rightly, and of which ones."""
    drawn: dict[str, dict[str, float]] = {}
    redrawn: dict[str, dict[str, float]] = {}
    for style in HANDS:
        subjects = choose_subjects({style: HELD_OUT_PICTURES_PER_STYLE}, FIRST_HELD_OUT_SEED)
        pictures, answers = torch.from_numpy(draw_pictures(subjects)), _answer(subjects)
        drawn[style] = reader.reading_accuracy(network, pictures, answers)
        redrawn[style] = reader.reading_accuracy(network, reader.redraw(vae, pictures), answers)
        logger.info("held-out reading, %s: %s", style, _worst(drawn[style]))
        logger.info("held-out reading after the VAE, %s: %s", style, _worst(redrawn[style]))
    last_training_seed = FIRST_TRAINING_SEED + sum(READER_PICTURES.values()) - 1
    last_held_out_seed = FIRST_HELD_OUT_SEED + HELD_OUT_PICTURES_PER_STYLE - 1
    return {
        "training_portraits": READER_PICTURES,
        "training_seeds": [FIRST_TRAINING_SEED, last_training_seed],
        "held_out_portraits_per_style": HELD_OUT_PICTURES_PER_STYLE,
        "held_out_seeds": [FIRST_HELD_OUT_SEED, last_held_out_seed],
        "drawn": drawn,
        "redrawn": redrawn,
    }


def _redraw_once(vae: AutoencoderKL, drawn: Tensor, file: Path) -> Tensor:
    if not file.exists():
        logger.info("redrawing %d portraits", len(drawn))
        redrawn = reader.redraw(vae, drawn, seed=reader.SETTINGS.seed)
        write_tensors(file, {"redrawn": redrawn})
    return read_tensors(file)["redrawn"]


def _answer(subjects: list[Subject]) -> Tensor:
    return torch.tensor(answer_questions(subjects, QUESTIONS))


def _worst(accuracy: dict[str, float]) -> str:
    name = min(accuracy, key=accuracy.__getitem__)
    return f"every attribute at {accuracy[name]:.1%} at least ({name})"
