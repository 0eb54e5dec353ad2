"""The pictures that mini SDXL is trained on: scenes drawn once and kept on disk as bytes."""

import logging
import multiprocessing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rasengan_xl.mini.world.portraits import PICTURE_SIZE, draw_portrait
from rasengan_xl.mini.world.scenes import draw_scene

FIRST_TRAINING_SEED = 1_000_000
"""Scenes below this seed belong to the fine-tuning set and are never seen here."""
FIRST_HELD_OUT_SEED = 2_000_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Subject:
    """A scene's seed and the style it is drawn in."""

    seed: int
    style: str


def choose_subjects(counts: dict[str, int], first_seed: int) -> list[Subject]:
    """List `counts[style]` scenes for each style, no scene twice."""
    seed = first_seed
    subjects: list[Subject] = []
    for style, count in counts.items():
        subjects += [Subject(seed + i, style) for i in range(count)]
        seed += count
    return subjects


def answer_questions(
    subjects: Sequence[Subject], questions: Mapping[str, tuple[str | bool, ...]]
) -> list[list[int]]:
    """Return, for each subject, which choice is right for each question.

    Args:
        subjects: What to answer about.
        questions: Attributes of a scene, or `style`, with the choices of each.
    """
    answers: list[list[int]] = []
    for subject in subjects:
        scene = draw_scene(subject.seed)
        named = {
            name: subject.style if name == "style" else getattr(scene, name) for name in questions
        }
        answers.append([choices.index(named[name]) for name, choices in questions.items()])
    return answers


def draw_pictures(subjects: Sequence[Subject], file: Path | None = None) -> NDArray[np.uint8]:
    """Draw every subject, on all cores, and keep the result in a file if one is named.

    Returns:
        Bytes of shape [picture, channel, height, width].
    """
    if file is not None and file.exists():
        return np.load(file)
    logger.info("drawing %d portraits", len(subjects))
    with multiprocessing.get_context("spawn").Pool() as pool:
        drawn = pool.map(_draw, subjects, chunksize=64)
    pictures = np.stack(drawn)
    if file is not None:
        np.save(file, pictures)
    return pictures


def _draw(subject: Subject) -> NDArray[np.uint8]:
    portrait = draw_portrait(draw_scene(subject.seed), subject.style, PICTURE_SIZE)
    return np.asarray(portrait).transpose(2, 0, 1)
