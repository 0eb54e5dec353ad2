"""Draw a few held-out captions with the base and with a run's adapter, for its card."""

from collections.abc import Generator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rasengan_xl.config.drawing_settings import DrawingSettings
from rasengan_xl.generation.generate import Wanted, generate_pictures
from rasengan_xl.generation.prompts import as_captions, held_out_captions
from rasengan_xl.generation.sheet import DrawnPicture
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.records import StageProgress
from rasengan_xl.sharing.pictures import CardPicture, keep_samples, read_asked, read_samples

DRAW_SAMPLES = "draw samples"


def draw_samples(
    folder: RunFolder, count: int
) -> Generator[StageProgress, None, tuple[CardPicture, ...]]:
    """Draw captions of held-out pictures into a run's folder; samples that lie there stay.

    Args:
        folder: Of a run that has an adapter.
        count: Captions to draw, each once; fewer, if fewer different ones are held out.

    Raises:
        RasenganError: The dataset, the base or the adapter cannot be used.
    """
    if count <= 0:
        return ()
    if drawn := read_samples(folder):
        return drawn
    held_out = yield from held_out_captions(folder.read_settings())
    captions = spread(list(dict.fromkeys(held_out)), count)
    with TemporaryDirectory() as place:
        pictures = yield from _draw(folder, captions, Path(place))
        return keep_samples(folder, pictures)


def spread(items: Sequence[str], count: int) -> list[str]:
    """Take so many items at even distances: neighbours in a dataset are often alike."""
    taken = min(count, len(items))
    return [items[place * len(items) // taken] for place in range(taken)]


def _draw(
    folder: RunFolder, captions: Sequence[str], out: Path
) -> Generator[StageProgress, None, list[CardPicture]]:
    lines, settings = as_captions(captions), DrawingSettings()
    yield StageProgress(stage=DRAW_SAMPLES, done=0, total=2 * len(lines))
    work = generate_pictures(
        Wanted(adapters=(folder.path,), lines=lines, settings=settings, out=out)
    )
    drawn: list[DrawnPicture] = []
    for record in work:
        if isinstance(record, DrawnPicture):
            drawn.append(record)
            yield StageProgress(stage=DRAW_SAMPLES, done=len(drawn), total=2 * len(lines))
    bases, adapted = drawn[: len(lines)], drawn[len(lines) :]  # subject by subject, the base first
    return [
        CardPicture(asked=read_asked(b.file), base=a.file, adapted=b.file, is_caption=True)
        for a, b in zip(bases, adapted, strict=True)
    ]
