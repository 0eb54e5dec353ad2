"""The folder in which a dataset's account is kept: records, summary and contact sheets."""

import os
import re
from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from math import ceil
from pathlib import Path

from PIL import Image

from rasengan_xl.dataset.buckets import Bucket
from rasengan_xl.dataset.crops import apply_crop
from rasengan_xl.dataset.plan import PicturePlan, PlannedPicture
from rasengan_xl.errors import OutputError
from rasengan_xl.prefetch import prefetch
from rasengan_xl.preparation.account import Account
from rasengan_xl.preparation.contact_sheets import (
    PICTURES_PER_SHEET,
    Chip,
    Tile,
    draw_sheet,
    shrink,
)
from rasengan_xl.preparation.records import PictureRecord
from rasengan_xl.runs.records import StageProgress
from rasengan_xl.whole_file import (
    DRAFT_SUFFIX,
    make_folder,
    remove_file,
    write_bytes_whole,
    write_whole,
)

PICTURES_FILE = "pictures.jsonl"
SUMMARY_FILE = "summary.json"
SHEETS_FOLDER = "sheets"
MOST_SHOWN = 20 * PICTURES_PER_SHEET
"""Where there are more, each size gets its part of so many thumbnails, at least one sheet."""

_SHEET_NAME = re.compile(r"\d+x\d+(-\d+-of-\d+)?\.png")
_BLUE, _ORANGE, _GREEN, _GREY = "#2f6f9f", "#b8651b", "#4d7c3a", "#8a8378"

_THREADS = min(8, os.cpu_count() or 1)

Shown = tuple[PictureRecord, PlannedPicture]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountFiles:
    """Where an account was written to."""

    pictures: Path
    """A JSON record of each picture, one per line."""
    summary: Path
    sheets: tuple[Path, ...]


def check_account_folder(folder: Path) -> None:
    """Refuse a folder that holds something other than an earlier account.

    Raises:
        OutputError: It does.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file; choose another --out")
    if not folder.is_dir() or (folder / PICTURES_FILE).exists():
        return
    if any(file.suffix != DRAFT_SUFFIX for file in folder.iterdir()):
        raise OutputError(f"{folder}: already holds something else; choose another --out")


def write_account(
    folder: Path, account: Account, plan: PicturePlan, background: str
) -> Generator[StageProgress, None, AccountFiles]:
    """Write an account, in place of an earlier one.

    Args:
        folder: Where to; made if it is not there.
        account: What to write.
        plan: What the account is of.
        background: Colour that shows through transparent pictures.

    Raises:
        DatasetError: A picture has gone or become unreadable.
        OutputError: The folder holds something else, or cannot be written.
    """
    check_account_folder(folder)
    files = AccountFiles(pictures=folder / PICTURES_FILE, summary=folder / SUMMARY_FILE, sheets=())
    sheets = folder / SHEETS_FOLDER
    # First what marks the folder as ours, so that an account broken off can be taken again.
    write_whole(files.pictures, _list_pictures(account))
    write_whole(files.summary, account.summary.model_dump_json(indent=2))
    make_folder(sheets)
    for old in sheets.iterdir():
        if _SHEET_NAME.fullmatch(old.name):
            remove_file(old)
    written: list[Path] = []
    pages = list(_paginate(account, plan))
    total = sum(len(page.shown) for page in pages)
    done = 0
    for page in pages:
        tiles: list[Tile] = []
        with closing(_make_tiles(page.shown, background)) as made:
            for tile in made:
                yield StageProgress(stage="draw contact sheets", done=done, total=total)
                tiles.append(tile)
                done += 1
        sheet = draw_sheet(tiles, page.bucket, page.title, page.subtitle)
        write_bytes_whole(sheets / page.file_name, _encode(sheet))
        written.append(sheets / page.file_name)
    yield StageProgress(stage="draw contact sheets", done=done, total=total)
    return AccountFiles(pictures=files.pictures, summary=files.summary, sheets=tuple(written))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    bucket: Bucket
    shown: Sequence[Shown]
    file_name: str
    title: str
    subtitle: str


def _paginate(account: Account, plan: PicturePlan) -> Iterator[_Page]:
    by_bucket: defaultdict[Bucket, list[Shown]] = defaultdict(list)
    for shown in zip(account.pictures, plan.used, strict=False):  # the skipped come last
        by_bucket[shown[1].bucket].append(shown)
    limit = len(plan.used)
    if limit > MOST_SHOWN:
        limit = max(PICTURES_PER_SHEET, MOST_SHOWN // len(by_bucket))
    for bucket, members in sorted(by_bucket.items(), key=lambda item: (-len(item[1]), item[0])):
        yield from _paginate_bucket(bucket, members, limit)


def _paginate_bucket(bucket: Bucket, members: Sequence[Shown], limit: int) -> Iterator[_Page]:
    count = len(members)
    shown = members
    if count > limit:
        shown = [members[place * count // limit] for place in range(limit)]
    sheets = ceil(len(shown) / PICTURES_PER_SHEET)
    size = f"{bucket.width}x{bucket.height}"
    for number in range(1, sheets + 1):
        part = f"-{number}-of-{sheets}" if sheets > 1 else ""
        start = (number - 1) * PICTURES_PER_SHEET
        yield _Page(
            bucket=bucket,
            shown=shown[start : start + PICTURES_PER_SHEET],
            file_name=f"{size}{part}.png",
            title=f"{bucket.width} x {bucket.height} pixels"
            + (f"   sheet {number} of {sheets}" if sheets > 1 else ""),
            subtitle=_describe_bucket(members, len(shown)),
        )


def _describe_bucket(members: Sequence[Shown], shown: int) -> str:
    records = [record for record, _ in members]
    held_out = sum(record.outcome == "held out" for record in records)
    upscaled = sum(record.upscaled_by is not None for record in records)
    parts = [f"{len(members):,} picture{'s' if len(members) > 1 else ''}"]
    parts += [f"{held_out:,} held out"] if held_out else []
    parts += [f"{upscaled:,} enlarged"] if upscaled else []
    crops = len(members[0][1].crops)
    parts += [f"the first of {crops} crops of each"] if crops > 1 else []
    parts += [f"{shown:,} of {len(members):,} shown"] if shown < len(members) else []
    return "   ·   ".join(parts)


def _make_tiles(shown: Sequence[Shown], background: str) -> Generator[Tile]:
    return prefetch(lambda each: _make_tile(*each, background), shown, ahead=8, threads=_THREADS)


def _make_tile(record: PictureRecord, planned: PlannedPicture, background: str) -> Tile:
    image = apply_crop(planned.picture.load(background), planned.crops[0])
    return Tile(
        image=shrink(image, planned.bucket),
        number=record.number,
        name=record.name,
        chips=tuple(_mark(record)),
    )


def _mark(record: PictureRecord) -> Iterator[Chip]:
    if record.outcome == "held out":
        yield Chip("held out", _BLUE)
    if record.upscaled_by is not None:
        yield Chip(f"enlarged {record.upscaled_by:.1f}x", _ORANGE)
    if record.animated:
        yield Chip("first frame", _GREY)
    if record.copy_of is not None:
        yield Chip(f"same as {record.copy_of}", _GREEN)
    elif record.looks_like is not None:
        yield Chip(f"like {record.looks_like}", _GREEN)
    if record.notes:
        yield Chip("see its notes", _GREY)


def _encode(sheet: Image.Image) -> bytes:
    file = BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def _list_pictures(account: Account) -> str:
    return "".join(
        f"{record.model_dump_json(exclude_defaults=True)}\n" for record in account.pictures
    )
