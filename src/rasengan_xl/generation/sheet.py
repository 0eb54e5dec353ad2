"""Draw every request with every subject, save each picture, and put them on sheets."""

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from PIL import Image

from rasengan_xl.errors import OutputError
from rasengan_xl.generation.drawing import draw_batches
from rasengan_xl.generation.easel import Easel
from rasengan_xl.generation.parameters_text import PictureFacts, UsedAdapter
from rasengan_xl.generation.png import save_drawn
from rasengan_xl.generation.requests import Request
from rasengan_xl.generation.schedulers import recognize_sampler
from rasengan_xl.generation.subjects import Subject, describe_used
from rasengan_xl.runs.records import StageProgress

Tell = Callable[[StageProgress], None]
"""Told of progress while a batch is drawn, when nothing can be yielded."""

_NUMBERED = re.compile(r"(\d{4,})-")


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnPicture:
    """A picture that has been saved."""

    file: Path
    request: Request
    subject: str
    """Label of what it was drawn with."""
    row: int
    """Which request it is of."""


def draw_sheet(
    easel: Easel,
    requests: Sequence[Request],
    subjects: Sequence[Subject],
    out: Path,
    tell: Tell = lambda _: None,
) -> Generator[StageProgress | DrawnPicture, None, None]:
    """Draw subject by subject, each from the same first noises; save each picture at once.

    Pictures are numbered on from those that the folder holds.

    Raises:
        OutputError: A file of that name is there, or cannot be written.
        DivergedError: A picture came out not finite.
    """
    pictures, steps = len(requests) * len(subjects), easel.drawing.sampler_steps
    progress = _Progress(first=next_number(out), steps=steps, total=pictures * steps, tell=tell)
    yield progress.now()
    for files, alike in groupby(subjects, key=lambda subject: subject.files):
        with easel.adapted(files) as on:
            for subject in alike:
                if on is not None:
                    on.set_strengths(subject.strengths)
                with easel.ready():
                    yield from _draw_column(easel, requests, subject, out, progress)


def next_number(out: Path) -> int:
    """Return the number after all that pictures in a folder begin with.

    Raises:
        OutputError: The folder is a file.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file; choose another --out")
    taken = [int(m[1]) for file in out.glob("*.png") if (m := _NUMBERED.match(file.name))]
    return max(taken, default=-1) + 1


@dataclass(slots=True, kw_only=True)
class _Progress:
    """How far the drawing has come, in sampler steps."""

    first: int
    """Number of the first request's pictures."""
    steps: int
    total: int
    tell: Tell
    done: int = 0

    def now(self, note: str = "") -> StageProgress:
        return StageProgress(stage="draw", done=self.done, total=self.total, note=note)

    def on_step(self, share: float) -> None:
        if share < 1:  # then pictures are yielded, once they are decoded
            done = self.done + int(share * self.steps)
            self.tell(StageProgress(stage="draw", done=done, total=self.total))


def _draw_column(
    easel: Easel, requests: Sequence[Request], subject: Subject, out: Path, progress: _Progress
) -> Iterator[StageProgress | DrawnPicture]:
    easel.take_sampler(from_pure_noise=subject.from_pure_noise)
    used, row = describe_used(subject), 0
    batches = draw_batches(
        easel.pipeline, requests, easel.drawing, start=easel.start, on_step=progress.on_step
    )
    for batch in batches:
        for request, picture in zip(batch.requests, batch.pictures, strict=True):
            file = out / f"{progress.first + row:04d}-seed{request.seed}-{subject.slug}.png"
            if file.exists():
                raise OutputError(f"{file}: is there already: another command draws there, too")
            save_drawn(picture, file, _describe(easel, picture, request, used), subject.label)
            yield DrawnPicture(file=file, request=request, subject=subject.label, row=row)
            row += 1
        progress.done += progress.steps * len(batch.pictures)
        yield progress.now(batch.note)


def _describe(
    easel: Easel, picture: Image.Image, request: Request, used: tuple[UsedAdapter, ...]
) -> PictureFacts:
    scheduler = easel.pipeline.scheduler
    return PictureFacts(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        seed=request.seed,
        width=picture.width,
        height=picture.height,
        sampler_steps=easel.drawing.sampler_steps,
        guidance=easel.drawing.guidance,
        guidance_rescale=easel.drawing.guidance_rescale,
        scheduler=easel.scheduler_name or type(scheduler).__name__,
        sampler=recognize_sampler(scheduler),
        base_model=easel.base_model,
        adapters=used,
        denoise=easel.start.denoise if easel.start else None,
        from_picture=easel.start.name if easel.start else None,
    )
