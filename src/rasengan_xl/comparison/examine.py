"""What base and adapters draw, and how well each does on the unquantized base.

All subjects draw from the same first noises, on the base that people will use; their pictures are
judged by `scoring.py` once the model has left memory.
"""

import gc
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import (
    StableDiffusionXLPipeline,
)

from rasengan_xl.adapters.files import begins_from_pure_noise
from rasengan_xl.adapters.reading.any_form import read_adapter
from rasengan_xl.comparison.drawing_times import Times
from rasengan_xl.comparison.examination import read_drawn
from rasengan_xl.comparison.facts import Examined
from rasengan_xl.comparison.layout import ComparisonFolder, PictureKind
from rasengan_xl.comparison.orders import Examine, Subject
from rasengan_xl.comparison.scoring import score_subjects
from rasengan_xl.dataset.encoded import EncodedDataset, encode_dataset
from rasengan_xl.errors import RasenganError
from rasengan_xl.evaluation.base_losses import name_base_losses, recall_or_measure
from rasengan_xl.evaluation.held_out import (
    HeldOutTable,
    Losses,
    build_table,
    measure_losses,
    reported_rows,
)
from rasengan_xl.generation.memory import MemorySavings
from rasengan_xl.generation.pipeline import adapted, load_pipeline
from rasengan_xl.generation.png import save_picture
from rasengan_xl.generation.requests import Drawing, Request, describe_drawing, list_requests
from rasengan_xl.generation.timing import TimedBatch, draw_timed
from rasengan_xl.runs.cost import peak_memory, reset_peak_memory
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.records import StageProgress
from rasengan_xl.sdxl.compute import Compute, choose_compute
from rasengan_xl.sdxl.layers import ModelLayers, list_layers
from rasengan_xl.sdxl.model_folder import ModelFolder, find_model
from rasengan_xl.sdxl.noise_schedule import load_noise_schedule
from rasengan_xl.whole_file import remove_file, write_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What every subject draws, and how."""

    requests: Mapping[PictureKind, Sequence[Request]]
    drawings: Mapping[PictureKind, Drawing]

    @property
    def timed(self) -> PictureKind:
        """The kind by which drawing is timed: the one of which there are most."""
        return max(self.requests, key=lambda kind: len(self.requests[kind]))

    @property
    def total(self) -> int:
        """Pictures that one subject draws."""
        return sum(map(len, self.requests.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where subjects are examined: a model without adapter, and what they are measured on."""

    order: Examine
    folder: ComparisonFolder
    model: ModelFolder
    layers: ModelLayers
    compute: Compute
    dataset: EncodedDataset
    assignment: Assignment
    table: HeldOutTable


def examine_subjects(order: Examine) -> Iterator[StageProgress]:
    """Draw every picture of the subjects, measure their losses, and score what they drew.

    A subject that cannot be examined is written down as such, and the others go on.

    Raises:
        RasenganError: Some subject could not be examined; told once all others have been.
    """
    bench = yield from _set_up(order)
    examined = yield from _draw_all(bench)
    sound = {name: facts for name, facts in examined.items() if facts.failure is None}
    for name, judged in (yield from score_subjects(bench, sound)).items():
        _keep(bench, name, judged.model_copy(update={"judge_key": order.judge_key}))
    failed = [f"{name}: {facts.failure}" for name, facts in examined.items() if facts.failure]
    if failed:
        raise RasenganError("; ".join(failed))


def _draw_all(bench: Bench) -> Generator[StageProgress, None, dict[str, Examined]]:
    """Have every subject draw that has not yet; let the model go at the end."""
    known = {s.name: read_drawn(bench.folder, s) for s in bench.order.subjects}
    examined = {name: facts for name, facts in known.items() if facts and facts.failure is None}
    left = [subject for subject in bench.order.subjects if subject.name not in examined]
    if left:
        yield StageProgress(stage="draw", done=0, total=1)
        pipeline = load_pipeline(bench.model, bench.compute, MemorySavings(vae_slicing=True))
        for number, subject in enumerate(left):
            # What is there is no longer what the facts say, once the first picture is written.
            remove_file(bench.folder.drawn(subject.name).facts_file)
            work = _examine(pipeline, subject, bench)
            examined[subject.name] = yield from _count_on(work, number, len(left))
            _keep(bench, subject.name, examined[subject.name])
        del pipeline
        gc.collect()
        if bench.compute.device.type == "cuda":
            torch.cuda.empty_cache()
    return {subject.name: examined[subject.name] for subject in bench.order.subjects}


def _keep(bench: Bench, name: str, examined: Examined) -> None:
    write_whole(bench.folder.drawn(name).facts_file, examined.model_dump_json(indent=2))


def _count_on(
    work: Generator[StageProgress, None, Examined], number: int, subjects: int
) -> Generator[StageProgress, None, Examined]:
    """Pass on the progress of one subject's pictures as a part of all subjects'."""
    while True:
        try:
            record = next(work)
        except StopIteration as end:
            return end.value
        if record.stage == "draw":
            done = number * record.total + record.done
            record = replace(record, done=done, total=record.total * subjects)
        yield record


def _set_up(order: Examine) -> Generator[StageProgress, None, Bench]:
    settings = order.settings
    compute = choose_compute(settings.compute)
    model = find_model(settings.base_model, settings.base_revision)
    snr = settings.objective.zero_terminal_snr  # the same in all arms
    schedule = load_noise_schedule(model, zero_terminal_snr=snr)
    dataset = yield from encode_dataset(settings, model, compute)
    return Bench(
        order=order,
        folder=ComparisonFolder(order.root),
        model=model,
        layers=list_layers(model),
        compute=compute,
        dataset=dataset,
        assignment=_assign(order, dataset),
        table=build_table(dataset.held_out, schedule, settings),
    )


def _assign(order: Examine, dataset: EncodedDataset) -> Assignment:
    pictures, scoring = order.pictures, order.scoring
    negative = pictures.negative_prompt
    shown = describe_drawing(pictures, pictures.size or order.settings.dataset.resolution)
    steps = scoring.sampler_steps or pictures.sampler_steps
    judged = describe_drawing(pictures.model_copy(update={"sampler_steps": steps}), shown.size[0])
    rows = reported_rows(dataset.held_out.pictures, order.settings.evaluation.tuning_pictures)
    captions = [dataset.held_out_plan[row].wordings[0] for row in rows[: scoring.pictures]]
    neutral = scoring.neutral_prompts if scoring.pictures else ()
    return Assignment(
        requests={
            "shown": list_requests(pictures),
            "scored": [Request(caption, seed, negative) for seed, caption in enumerate(captions)],
            "neutral": [Request(prompt, seed, negative) for seed, prompt in enumerate(neutral)],
        },
        drawings={"shown": shown, "scored": judged, "neutral": judged},
    )


def _on(
    pipeline: StableDiffusionXLPipeline, subject: Subject, bench: Bench
) -> AbstractContextManager[None]:
    """Put a subject's adapter on, with the sampler that it was trained for."""
    if subject.run is None:
        return nullcontext()
    run = RunFolder(bench.folder.root / subject.run)
    contents = read_adapter(run.adapter_file, bench.layers)
    told = run.read_settings().objective.zero_terminal_snr is True
    pure = told or begins_from_pure_noise(run.adapter_file)
    return adapted(pipeline, contents, from_pure_noise=pure)


def _examine(
    pipeline: StableDiffusionXLPipeline, subject: Subject, bench: Bench
) -> Generator[StageProgress, None, Examined]:
    reset_peak_memory(bench.compute.device)
    times = Times()
    found: dict[str, Any] = {"losses": None, "memory": None}
    try:
        with _on(pipeline, subject, bench):
            yield from _draw_every_kind(pipeline, subject, bench, times)
            found["memory"] = peak_memory("draw", bench.compute.device)
            if subject.on_full_base:
                found["losses"] = yield from _measure_on_full_base(pipeline, subject, bench)
    except RasenganError as error:
        found["failure"] = str(error)
    most = bench.order.settings.evaluation.pictures
    return Examined(
        key=subject.key,
        judge_key=None,
        table=[picture.digest for picture in bench.table.pictures.pictures[:most]],
        seconds_per_picture=times.summarise(),
        prompts=[request.prompt for request in bench.assignment.requests["scored"]],
        **found,
    )


def _draw_every_kind(
    pipeline: StableDiffusionXLPipeline, subject: Subject, bench: Bench, times: Times
) -> Iterator[StageProgress]:
    done, total = 0, bench.assignment.total
    for kind in bench.assignment.requests:
        for batch in _draw(pipeline, subject, kind, bench):
            if kind == bench.assignment.timed:
                times.add(batch, bench.assignment.drawings[kind])
            done += len(batch.pictures)
            yield StageProgress(stage="draw", done=done, total=total)


def _measure_on_full_base(
    pipeline: StableDiffusionXLPipeline, subject: Subject, bench: Bench
) -> Generator[StageProgress, None, Losses]:
    most, compute = bench.order.settings.evaluation.pictures, bench.compute
    measure = partial(measure_losses, pipeline.unet, bench.table, most, compute)
    if subject.run is not None:
        return (yield from measure())
    key = name_base_losses(bench.model, "full", bench.table, most, compute)
    return (yield from recall_or_measure(key, measure))


def _draw(
    pipeline: StableDiffusionXLPipeline, subject: Subject, kind: PictureKind, bench: Bench
) -> Iterator[TimedBatch]:
    requests, drawing = bench.assignment.requests[kind], bench.assignment.drawings[kind]
    folder, done = bench.folder.drawn(subject.name), 0
    for batch in draw_timed(pipeline, requests, drawing):
        for picture in batch.pictures:
            described = {
                "arm": subject.name,
                "prompt": requests[done].prompt,
                "seed": requests[done].seed,
                "size": drawing.size[0],
                "base_model": bench.order.settings.base_model,
                "negative_prompt": requests[done].negative_prompt,
                "sampler_steps": drawing.sampler_steps,
                "guidance": drawing.guidance,
            }
            save_picture(picture, folder.picture_file(kind, done), described)
            done += 1
        yield batch
