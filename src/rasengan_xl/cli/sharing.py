"""How the command line makes a card, and shares a run once the user has agreed."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.filesize import decimal
from rich.table import Table

from rasengan_xl.cli.console import console, say
from rasengan_xl.errors import OutputError
from rasengan_xl.runs.folder import RunFolder

if TYPE_CHECKING:
    from rasengan_xl.sharing.hub import Destination
    from rasengan_xl.sharing.package import Package

NOTHING_DONE = "Nothing was uploaded."


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """What the user wants to share, and how."""

    path: Path
    """The run's folder."""
    repo_id: str
    private: bool
    licence: str | None
    anyway: bool
    """Also a run that was broken off, or that failed its verification."""
    agreed: bool
    """Whether the user has agreed beforehand."""
    dry_run: bool


def show_sharing(wanted: Sharing) -> None:
    """Say exactly what would be uploaded, ask, and upload it."""
    from rasengan_xl.sharing.hub import check_repo_id, has_token, look_at, upload
    from rasengan_xl.sharing.package import pack_run

    check_repo_id(wanted.repo_id)
    package = pack_run(
        RunFolder(wanted.path), wanted.repo_id, licence=wanted.licence, anyway=wanted.anyway
    )
    if wanted.dry_run and not has_token():
        _show_without_hub(package, wanted.path)
        return
    destination = look_at(wanted.repo_id, private=wanted.private)
    console.print(_list_files(package, destination.files))
    for line in _explain(package, destination, wanted.path):
        say(line)
    if wanted.dry_run:
        say(f"{NOTHING_DONE} (--dry-run)")
    elif not (wanted.agreed or _ask(package, destination)):
        say(NOTHING_DONE)
    elif upload(package, destination):
        say(f"Uploaded: {destination.url}")
    else:
        say(f"All of it was there already: {destination.url}")


def _show_without_hub(package: "Package", path: Path) -> None:
    """Say what would be uploaded, where the hub cannot say to what."""
    console.print(_list_files(package, frozenset()))
    for line in _describe_package(package, path):
        say(line)
    say(f"{NOTHING_DONE} (--dry-run); without a token the hub does not say what lies there")


def _list_files(package: "Package", there: frozenset[str]) -> Table:
    table = Table("file", box=None, pad_edge=False)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("")
    for each in package.uploads:
        remarks = ["replaces the one there"] if each.name in there else []
        remarks += ["changed, see below"] if each.changes else []
        table.add_row(each.name, decimal(each.size_bytes), ", ".join(remarks))
    return table


def _describe_package(package: "Package", path: Path) -> Iterator[str]:
    for each in package.uploads:
        yield from (f"{each.name}: {change}" for change in each.changes)
    yield f"Nothing else in {path} is uploaded."
    yield from package.notes


def _explain(package: "Package", destination: "Destination", path: Path) -> Iterator[str]:
    yield from _describe_package(package, path)
    seen = "private" if destination.private else "public"
    kind = "an existing" if destination.exists else "a new"
    yield f"To {destination.url}, {kind} {seen} repository, as {destination.user}"
    kept = destination.files - {each.name for each in package.uploads} - {".gitattributes"}
    if kept:
        yield f"{len(kept)} other files that lie there stay: {', '.join(sorted(kept)[:8])}"


def _ask(package: "Package", destination: "Destination") -> bool:
    """Have the user agree; where nobody can be asked, refuse."""
    if not _can_be_asked():
        raise OutputError(
            "nothing was uploaded: without a terminal nobody can be asked; look at what --dry-run "
            "says, and agree with --yes"
        )
    seen = "private" if destination.private else "public"
    files = f"{len(package.uploads)} files ({decimal(package.size_bytes)})"
    replaced = sum(each.name in destination.files for each in package.uploads)
    over = f", replacing {replaced} there" if replaced else ""
    try:
        return typer.confirm(f"Upload {files} to the {seen} {destination.repo_id}{over}?")
    except typer.Abort:
        return False


def _can_be_asked() -> bool:
    return sys.stdin.isatty()


def finish_with_card(folder: RunFolder, samples: int) -> None:
    """Draw a few held-out captions into a finished run's folder, and write its card.

    What goes wrong while drawing is told, and harms no run: its adapter is there.
    """
    from rasengan_xl.cli.console import follow, progress_board
    from rasengan_xl.errors import RasenganError
    from rasengan_xl.sharing.card import write_card
    from rasengan_xl.sharing.pictures import read_samples
    from rasengan_xl.sharing.samples import draw_samples
    from rasengan_xl.sources.names import one_line

    try:
        with progress_board() as board:
            follow(draw_samples(folder, samples), board.show)
    except KeyboardInterrupt:
        say("Stopped: not all samples were drawn")
    except (RasenganError, RuntimeError) as error:  # PyTorch has too little memory left, perhaps
        reason = error if isinstance(error, RasenganError) else one_line(error)
        say(f"Not all samples were drawn: {reason}")
    say(f"Its card is {write_card(folder, read_samples(folder))}")
