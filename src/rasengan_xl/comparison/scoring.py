"""Judge what subjects drew: features of every encoder, and what follows from a picture alone.

Distances between sets of pictures are taken later, from the features, for all arms together.
"""

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from rasengan_xl.comparison.facts import DrawnNearest, Examined, ReferenceFacts
from rasengan_xl.comparison.layout import REFERENCE, ComparisonFolder, PictureKind
from rasengan_xl.comparison.result import EncoderFacts
from rasengan_xl.config.comparison_settings import EncoderKey, ScoringSettings
from rasengan_xl.dataset.encoding import CropRequest
from rasengan_xl.dataset.plan import PlannedPicture
from rasengan_xl.errors import ModelError
from rasengan_xl.evaluation.attributes import judge_attributes
from rasengan_xl.evaluation.distances import find_nearest
from rasengan_xl.evaluation.encoders import Encoder, clip_scores, find_encoder
from rasengan_xl.evaluation.features import encode_pictures, encode_texts
from rasengan_xl.evaluation.held_out import reported_rows
from rasengan_xl.file_digests import file_digest
from rasengan_xl.mini.reader.loading import READER_FOLDER, WEIGHTS_NAME, load_reader
from rasengan_xl.runs.records import StageProgress
from rasengan_xl.tensor_file import write_tensors
from rasengan_xl.whole_file import remove_file, write_whole

if TYPE_CHECKING:
    from rasengan_xl.comparison.examine import Bench

Features = Float[np.ndarray, "picture width"]

NEAREST_SHOWN = 2
"""Drawn pictures of a subject that are kept with the training picture most like them."""
READER = "attribute reader of the mini world"
_NEAREST_BY = ("dino", "clip", "reader")
"""Which encoder says what is near: the first of these that can be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """An encoder that judges pictures, and what it is called in files and columns."""

    key: str
    encoder: Encoder
    batch_size: int

    def features(self, pictures: Iterable[Image.Image]) -> Features:
        """Return the features of pictures."""
        return encode_pictures(self.encoder, pictures, self.batch_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The pictures of the dataset that drawn ones are set against."""

    held_out: Sequence[CropRequest]
    training: Sequence[CropRequest]


def score_subjects(
    bench: "Bench", examined: Mapping[str, Examined]
) -> Generator[StageProgress, None, dict[str, Examined]]:
    """Add to what was measured of each subject what the encoders say of its pictures."""
    scored = dict(examined)
    scoring, order = bench.order.scoring, bench.order
    judges, facts = _find_judges(scoring, bench) if scoring.pictures else ([], [])
    near = next((judge for key in _NEAREST_BY for judge in judges if judge.key == key), None)
    reference, similarities = _list_reference(bench), None
    _forget(bench, scored)
    done, total = 0, len(judges) * (len(scored) + 1)
    for judge in judges:
        yield StageProgress(stage=f"judge by {judge.key}", done=done, total=total)
        held_out = judge.features(request.cut() for request in reference.held_out)
        training = None
        if judge is near:
            training = judge.features(request.cut() for request in reference.training)
            similarities = find_nearest(held_out, training).similarity.tolist()
        if order.writes_reference:
            _write(bench.folder, judge.key, REFERENCE, held_out=held_out, training=training)
        done += 1
        for name, subject in scored.items():
            scored[name] = _score(judge, name, subject, training, bench)
            done += 1
            yield StageProgress(stage=f"judge by {judge.key}", done=done, total=total)
    if order.writes_reference:
        told = ReferenceFacts(
            key=order.judge_key,
            encoders=facts,
            held_out=[request.picture.name for request in reference.held_out],
            held_out_similarities=similarities,
        )
        write_whole(bench.folder.reference.facts_file, told.model_dump_json(indent=2))
    return scored


def _forget(bench: "Bench", subjects: Iterable[str]) -> None:
    """Remove what encoders said of other pictures, or what encoders say that are not asked now."""
    folders = [bench.folder.drawn(name) for name in subjects]
    if bench.order.writes_reference:
        remove_file(bench.folder.reference.facts_file)
        folders.append(bench.folder.reference)
    for folder in folders:
        for file in (*folder.path.glob("features-*"), *folder.path.glob("nearest/*")):
            remove_file(file)


def _find_judges(
    scoring: ScoringSettings, bench: "Bench"
) -> tuple[list[Judge], list[EncoderFacts]]:
    """Find every encoder that is asked for; one that cannot be had is told and done without."""
    judges: list[Judge] = []
    facts: list[EncoderFacts] = []
    for key in scoring.encoders:
        name, revision = {
            "clip": (scoring.clip, scoring.clip_revision),
            "dino": (scoring.dino, scoring.dino_revision),
            "reader": (READER, None),
        }[key]
        try:
            encoder = _find_encoder(key, name, revision, bench.compute.device)
        except ModelError as error:
            facts.append(EncoderFacts(key=key, name=name, identity=None, absent=str(error)))
            continue
        judges.append(Judge(key=key, encoder=encoder, batch_size=scoring.batch_size))
        facts.append(EncoderFacts(key=key, name=name, identity=encoder.identity))
    return judges, facts


def _find_encoder(
    key: EncoderKey, name: str, revision: str | None, device: torch.device
) -> Encoder:
    if key == "reader":
        identity = file_digest(READER_FOLDER / WEIGHTS_NAME)
        return Encoder(identity=identity, features=load_reader(device).features)
    return find_encoder(key, name, revision, device)


def _list_reference(bench: "Bench") -> Reference:
    settings = bench.order.settings
    dataset, tuning = bench.dataset, settings.evaluation.tuning_pictures
    rows = reported_rows(dataset.held_out.pictures, tuning)
    held_out = [dataset.held_out_plan[row] for row in rows]

    def first_crops(planned: Sequence[PlannedPicture]) -> list[CropRequest]:
        return [CropRequest(p.picture, p.crops[0], settings.dataset.background) for p in planned]

    return Reference(held_out=first_crops(held_out), training=first_crops(bench.dataset.train_plan))


def _score(
    judge: Judge, name: str, subject: Examined, training: Features | None, bench: "Bench"
) -> Examined:
    pictures = _load(bench, "scored", name)
    drawn = judge.features(pictures)
    neutral = judge.features(_load(bench, "neutral", name))
    found: dict[str, Any] = {}
    if training is not None:
        found |= _find_nearest(judge, name, drawn, training, bench)
    captions = None
    if judge.key == "clip":
        captions = encode_texts(judge.encoder, subject.prompts, judge.batch_size)
        found["clip_scores"] = clip_scores(drawn, captions).tolist()
    if judge.key == "reader":
        judged = judge_attributes(pictures, subject.prompts, bench.compute.device)
        found |= {"named_rightly": judged.named_rightly, "in_style": judged.in_style}
    _write(bench.folder, judge.key, name, scored=drawn, neutral=neutral, captions=captions)
    return subject.model_copy(update=found)


def _load(bench: "Bench", kind: PictureKind, subject: str) -> list[Image.Image]:
    pictures: list[Image.Image] = []
    for number in range(len(bench.assignment.requests[kind])):
        with Image.open(bench.folder.drawn(subject).picture_file(kind, number)) as picture:
            pictures.append(picture.convert("RGB"))
    return pictures


def _find_nearest(
    judge: Judge, name: str, drawn: Features, training: Features, bench: "Bench"
) -> dict[str, Any]:
    """Find the training picture nearest to each drawn one, and keep the few that are nearest."""
    nearest = find_nearest(drawn, training)
    requests = _list_reference(bench).training
    shown: list[DrawnNearest] = []
    for number in np.argsort(-nearest.similarity)[:NEAREST_SHOWN].tolist():
        request = requests[int(nearest.index[number])]
        file = bench.folder.drawn(name).nearest_file(number)
        file.parent.mkdir(parents=True, exist_ok=True)
        request.cut().save(file)
        shown.append(
            DrawnNearest(
                number=number,
                training_name=request.picture.name,
                similarity=float(nearest.similarity[number]),
            )
        )
    similarities = nearest.similarity.tolist()
    return {"nearest_by": judge.key, "similarities": similarities, "nearest": shown}


def _write(
    folder: ComparisonFolder, encoder: str, subject: str, **features: Features | None
) -> None:
    tensors = {n: torch.from_numpy(f) for n, f in features.items() if f is not None and len(f)}
    file = folder.drawn(subject).features_file(encoder)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(file, tensors)
