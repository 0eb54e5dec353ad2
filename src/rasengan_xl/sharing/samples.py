"""Draw a few held-out captions with the base and with a run's adapter, for its card."""

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rasengan_xl.config.requests import picture_settings
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.dataset.plan import plan_pictures
from rasengan_xl.dataset.split import split_held_out
from rasengan_xl.generation.pairs import draw_pairs, find_ground
from rasengan_xl.generation.pipeline import MemorySavings
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.records import StageProgress
from rasengan_xl.sharing.pictures import CardPicture, keep_samples, read_asked, read_samples
from rasengan_xl.sources.opening import open_source

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
    captions = spread(list(dict.fromkeys((yield from _held_out_captions(folder)))), count)
    with TemporaryDirectory() as place:
        pictures: list[CardPicture] = []
        yield StageProgress(stage=DRAW_SAMPLES, done=0, total=len(captions))
        for picture in _draw(folder, captions, Path(place)):
            pictures.append(picture)
            yield StageProgress(stage=DRAW_SAMPLES, done=len(pictures), total=len(captions))
        return keep_samples(folder, pictures)


def spread(items: Sequence[str], count: int) -> list[str]:
    """Take so many items at even distances: neighbours in a dataset are often alike."""
    taken = min(count, len(items))
    return [items[place * len(items) // taken] for place in range(taken)]


def _draw(folder: RunFolder, captions: Sequence[str], out: Path) -> Iterator[CardPicture]:
    pictures = picture_settings(prompts=tuple(captions))
    ground = find_ground(folder.path, None)
    for pair in draw_pairs(folder.path, ground, pictures, out, MemorySavings()):
        asked = read_asked(pair.adapted)
        yield CardPicture(asked=asked, base=pair.base, adapted=pair.adapted, is_caption=True)


def _held_out_captions(folder: RunFolder) -> Generator[StageProgress, None, list[str]]:
    settings: RunSettings = folder.read_settings()
    wanted = settings.dataset
    source = yield from open_source(wanted, settings.caption.origin)
    plan = plan_pictures(source, wanted, settings.caption, settings.seed)
    _, held_out = split_held_out(plan.used, wanted.held_out_share, wanted.held_out_minimum)
    return [planned.wordings[0] for planned in held_out]
