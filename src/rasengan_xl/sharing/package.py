"""What of a run goes to the hub, file by file, freed of names of places on this machine."""

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from PIL import Image, PngImagePlugin

from rasengan_xl.errors import OutputError
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.verification import read_verification
from rasengan_xl.sharing.card import is_edited, render_card
from rasengan_xl.sharing.pictures import read_samples
from rasengan_xl.sharing.places import hide_in_text, hide_places, known_places


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One file."""

    name: str
    """In the repository."""
    content: Path | bytes
    """As it lies here, or what is uploaded instead."""
    changes: tuple[str, ...] = ()
    """What of it was replaced."""

    @property
    def size_bytes(self) -> int:
        """How much is uploaded."""
        content = self.content
        return len(content) if isinstance(content, bytes) else content.stat().st_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """Everything that goes up, and nothing else does."""

    uploads: tuple[Upload, ...]
    notes: tuple[str, ...] = ()
    """What the user must know of it."""

    @property
    def size_bytes(self) -> int:
        """How much is uploaded in all."""
        return sum(upload.size_bytes for upload in self.uploads)


def pack_run(
    folder: RunFolder, hub_id: str, *, licence: str | None = None, anyway: bool = False
) -> Package:
    """Gather what others need of a run: card, adapters, samples, settings and outcomes.

    Args:
        folder: The run's.
        hub_id: Where it goes to.
        licence: Of the adapter, by the hub's short name; absent: that of the base model.
        anyway: Pack a run too that was broken off or failed its verification.

    Raises:
        OutputError: There is nothing to share, or it should not be shared as it is.
    """
    notes = tuple(_doubts(folder, anyway=anyway))
    known = known_places(folder)
    pictures = read_samples(folder)
    if is_edited(folder):
        card, own = _edited_card(folder, licence, known)
        notes += own
    else:
        text = render_card(folder, pictures, hub_id=hub_id, licence=licence)
        card = Upload(name=folder.card_file.name, content=text.encode())
    records = (folder.settings_file, folder.summary_file, folder.verification_file)
    uploads = (
        card,
        *_adapters(folder),
        *(_pack_record(file, known) for file in records if file.exists()),
        *(
            _pack_picture(file, known)
            for picture in pictures
            for file in (picture.base, picture.adapted)
        ),
    )
    return Package(uploads=uploads, notes=notes)


def _doubts(folder: RunFolder, *, anyway: bool) -> Iterator[str]:
    """Refuse what should not be shared; yield what the user insists on nevertheless."""
    if folder.read_settings().is_given:
        raise OutputError(
            f"{folder.path}: holds an adapter that was given, not trained here; share a run that "
            "was trained"
        )
    if not folder.adapter_file.is_file() or not folder.summary_file.is_file():
        raise OutputError(f"{folder.path}: has no adapter yet; finish it with train --resume")
    verification = read_verification(folder)
    faults: list[str] = []
    if not folder.is_finished:
        faults.append("was broken off; finish it with train --resume")
    if verification and not verification.passed:
        failed = ", ".join(check.name for check in verification.failures)
        faults.append(f"failed its verification ({failed})")
    if faults and not anyway:
        raise OutputError(f"{folder.path}: {'; '.join(faults)}, or share it --anyway")
    yield from (f"It {fault}." for fault in faults)
    if verification is None:
        yield f"It is not verified: `rasengan verify {folder.path}` would do that."


def _edited_card(
    folder: RunFolder, licence: str | None, known: Mapping[str, str]
) -> tuple[Upload, tuple[str, ...]]:
    """Take the card that the user has edited as it is."""
    file = folder.card_file
    if licence:
        raise OutputError(
            f"{file}: was edited by hand; set its licence there, or remove it and have it written"
        )
    text = file.read_text(encoding="utf-8")
    notes = (f"{file.name} was edited by hand, and is uploaded as it is.",)
    if hide_in_text(text, known) != text:
        notes += (f"{file.name} names places on this machine: look through it.",)
    return Upload(name=file.name, content=file), notes


def _adapters(folder: RunFolder) -> Iterator[Upload]:
    for file in (folder.adapter_file, folder.best_adapter_file, folder.best_file):
        if file.is_file():
            yield Upload(name=file.relative_to(folder.path).as_posix(), content=file)


def _pack_record(file: Path, known: Mapping[str, str]) -> Upload:
    try:
        found: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"{file}: cannot be read ({error}); restore it") from error
    public = hide_places(found, known)
    if public == found:
        return Upload(name=file.name, content=file)
    content = json.dumps(public, indent=2, ensure_ascii=False).encode()
    return Upload(name=file.name, content=content, changes=tuple(_changes(found, public)))


def _changes(before: Any, after: Any, key: str = "") -> Iterator[str]:
    """Name every value that was replaced."""
    match before:
        case dict():
            pairs = zip(cast("dict[str, Any]", before).items(), after.items(), strict=True)
            for (name, old), (_, new) in pairs:
                yield from _changes(old, new, f"{key}.{name}".lstrip("."))
        case list():
            for place, (old, new) in enumerate(zip(cast("list[Any]", before), after, strict=True)):
                yield from _changes(old, new, f"{key}[{place}]")
        case _ if before != after:
            yield f"{key} = {after!r} instead of {before!r}"
        case _:
            pass


def _pack_picture(file: Path, known: Mapping[str, str]) -> Upload:
    """Free the texts in a picture's file of places; its pixels stay as they are."""
    name = f"{file.parent.name}/{file.name}"
    with Image.open(file) as picture:
        picture.load()
        texts = {str(key): text for key, text in picture.info.items() if isinstance(text, str)}
        public = {key: _public_text(text, known) for key, text in texts.items()}
        if public == texts:
            return Upload(name=name, content=file)
        chunks = PngImagePlugin.PngInfo()
        for key, text in public.items():
            chunks.add_text(key, text)
        content = io.BytesIO()
        picture.save(content, "PNG", pnginfo=chunks)
    changes = tuple(change for key in texts for change in _text_changes(key, texts, public))
    return Upload(name=name, content=content.getvalue(), changes=changes)


def _text_changes(key: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    try:
        yield from _changes(json.loads(before[key]), json.loads(after[key]), key)
    except ValueError:
        yield from _changes(before[key], after[key], key)


def _public_text(text: str, known: Mapping[str, str]) -> str:
    try:
        found: Any = json.loads(text)
    except ValueError:
        return hide_in_text(text, known)
    public = hide_places(found, known)
    return text if public == found else json.dumps(public)
