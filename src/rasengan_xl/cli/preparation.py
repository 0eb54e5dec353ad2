"""How the command line shows what is in a dataset."""

from collections.abc import Iterator, Mapping

from rich.table import Table
from rich.text import Text

from rasengan_xl.preparation.long_captions import LongCaptions
from rasengan_xl.preparation.prepare import Preparation
from rasengan_xl.preparation.records import AccountSummary

MOST_CUT_OFF_SHOWN = 60
"""Characters of what is cut off a caption."""


def preparation_tables(preparation: Preparation) -> Iterator[Table]:
    """Lay out a dataset's numbers, then its training sizes."""
    summary = preparation.summary
    facts = Table(title=_plain(f"{summary.source}"), title_justify="left", show_header=False)
    facts.add_column(justify="left")
    facts.add_column(justify="right", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, number, detail in (
        *_fates(summary),
        *_oddities(summary),
        *(_describe_captions(captions) for captions in summary.captions),
        *_encodings(preparation),
    ):
        facts.add_row(_plain(name), f"{number:,}", _plain(detail))
    yield facts
    sizes = Table("width x height", title="training sizes", title_justify="left")
    for column in ("pictures", "trained on", "held out"):
        sizes.add_column(column, justify="right")
    for size, count in summary.buckets.items():
        numbers = (count.trained + count.held_out, count.trained, count.held_out)
        sizes.add_row(size.replace("x", " x "), *(f"{number:,}" for number in numbers))
    yield sizes


Row = tuple[str, int, str]


def _fates(summary: AccountSummary) -> Iterator[Row]:
    yield "found", summary.found, ""
    parts = f"{summary.trained:,} trained on, {summary.held_out:,} held out"
    yield "used", summary.used, parts
    yield "skipped", summary.skipped, ""
    for reason, count in summary.skipped_by_reason.items():
        yield f"  {reason}", count, f"such as {summary.skipped_examples[reason]}"
    if summary.ignored_files:
        ignored = sum(summary.ignored_files.values())
        yield "other files", ignored, f"ignored: {_list_counts(summary.ignored_files)}"


def _oddities(summary: AccountSummary) -> Iterator[Row]:
    yield "enlarged", summary.upscaled, "smaller than the size they are trained at"
    if summary.animated:
        yield "animated", summary.animated, "their first frame is used"
    if summary.notes:
        yield "damaged in part", sum(summary.notes.values()), _list_counts(summary.notes)
    yield "copies", summary.copies, "the same as an earlier one"
    yield "alike", summary.alike, "not the same as an earlier one, but look like it"
    examples = ", ".join(
        f"{each.held_out} like {each.trained}" for each in summary.held_out_alike_examples
    )
    yield (
        "held out, yet seen",
        summary.held_out_alike,
        f"look like one that is trained on: {examples}" if examples else "",
    )


def _describe_captions(captions: LongCaptions) -> Row:
    detail = f"of {captions.wordings:,} captions; the longest has {captions.longest} tokens"
    if captions.examples:
        first = captions.examples[0]
        lost = first.cut_off
        if len(lost) > MOST_CUT_OFF_SHOWN:
            lost = f"{lost[:MOST_CUT_OFF_SHOWN]}..."
        detail += f'; {first.name} loses "{lost}"'
    return f"over {captions.limit} tokens ({captions.tokenizer})", captions.count, detail


def _encodings(preparation: Preparation) -> Iterator[Row]:
    for name, facts in (
        ("captions encoded", preparation.captions_encoded),
        ("crops encoded", preparation.crops_encoded),
    ):
        ready = facts.asked - facts.encoded
        yield name, facts.encoded, f"of {facts.asked:,}; {ready:,} were there already"
        if facts.damaged_files:
            yield "  damaged files", facts.damaged_files, "in the cache; removed, and encoded anew"


def _list_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items())


def _plain(text: str) -> Text:
    """Keep brackets and colons in names from being read as markup."""
    return Text(text)
