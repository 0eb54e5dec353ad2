"""A card for every finished run of a comparison, with what it drew beside what the base drew."""

from collections.abc import Iterator

from rasengan_xl.comparison.layout import ComparisonFolder, subject_of
from rasengan_xl.config.comparison_settings import BASE, ComparisonSettings
from rasengan_xl.sharing.card import write_card
from rasengan_xl.sharing.pictures import CardPicture, keep_samples, read_asked, read_samples

MOST_KEPT = 4
"""Pairs copied into a run's folder, so that it can be shared by itself."""


def write_cards(settings: ComparisonSettings, folder: ComparisonFolder) -> None:
    """Write the cards, and copy the pictures that they show; none of what was not trained here.

    Raises:
        OutputError: A record of a run, or a picture, is damaged.
    """
    trained = (arm for arm, each in settings.arms.items() if not each.is_given)
    for arm in trained:
        for seed in settings.seeds:
            run = folder.run(arm, seed)
            if run.is_finished:
                keep_samples(run, _list_pairs(settings, folder, subject_of(arm, seed)))
                write_card(run, read_samples(run))


def _list_pairs(
    settings: ComparisonSettings, folder: ComparisonFolder, subject: str
) -> Iterator[CardPicture]:
    """List the pictures for people that both have drawn."""
    drawn = len(settings.pictures.prompts) * len(settings.pictures.seeds)
    for number in range(min(drawn, MOST_KEPT)):
        base = folder.drawn(BASE).picture_file("shown", number)
        adapted = folder.drawn(subject).picture_file("shown", number)
        if base.is_file() and adapted.is_file():
            yield CardPicture(asked=read_asked(adapted), base=base, adapted=adapted)
