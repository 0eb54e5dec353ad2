"""What is known of an adapter that is exported: the file, the run it is from, and its base."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rasengan_xl.adapters.base import Base
from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.adapters.files import begins_from_pure_noise
from rasengan_xl.adapters.reading.any_form import read_adapter
from rasengan_xl.adapters.verification.subject import Subject, find_subject
from rasengan_xl.config.base_precisions import STORAGES, Storage
from rasengan_xl.errors import AdapterError
from rasengan_xl.runs.finding import folder_around
from rasengan_xl.runs.folder import Kind, RunFolder, read_record
from rasengan_xl.runs.records import DatasetFacts, RunSummary
from rasengan_xl.sdxl.model_folder import ModelFolder
from rasengan_xl.sdxl.stored_weights import StoredWeights


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An adapter to export."""

    subject: Subject
    contents: AdapterContents
    stored: StoredWeights | None
    """Weights of the base, if it is here."""
    folder: RunFolder
    """Of the run that the adapter is from, if it is a run's."""
    dataset: DatasetFacts | None
    """What the run saw, if the adapter is a run's."""
    summary: RunSummary | None
    parts: "tuple[Source, ...]" = ()
    """What it was combined of; empty: it is one adapter."""

    @property
    def base(self) -> Base:
        """The base, as far as it is here."""
        return Base(layers=self.subject.layers, stored=self.stored)

    @property
    def model(self) -> ModelFolder:
        """The base, whole.

        Raises:
            AdapterError: It is not here.
        """
        if self.subject.model is None:
            raise AdapterError(f"{self.subject.file}: {self.subject.without_base}")
        return self.subject.model

    @property
    def title(self) -> str:
        """What people call it: the run, or the file if it is no run's."""
        if self.parts:
            return " + ".join(part.title for part in self.parts)
        return self.folder.path.name if self.subject.settings else self.subject.file.stem

    @property
    def steps(self) -> int | None:
        """How many optimizer steps it was trained, if that is known."""
        if self.summary is None:
            return None
        is_best = self.subject.file.resolve() == self.folder.best_adapter_file.resolve()
        return self.summary.best.step if is_best and self.summary.best else self.summary.steps

    @property
    def date(self) -> str:
        """When the file was written, in UTC."""
        written = datetime.fromtimestamp(self.subject.file.stat().st_mtime, UTC)
        return written.isoformat(timespec="seconds")

    @property
    def recipe_sha256(self) -> str | None:
        """SHA-256 of all settings of the run, as its folder's settings.json has them."""
        settings = self.subject.settings
        if settings is None:
            return None
        return hashlib.sha256(settings.model_dump_json().encode()).hexdigest()

    @property
    def trained_on(self) -> Storage:
        """How the base was stored, as far as a run tells."""
        settings = self.subject.settings
        return STORAGES["full" if settings is None else settings.adapter.base_precision]

    @property
    def from_pure_noise(self) -> bool:
        """Whether it was trained to begin from pure noise, though its base was not."""
        if self.parts:
            return any(part.from_pure_noise for part in self.parts)
        settings = self.subject.settings
        told = settings is not None and settings.objective.zero_terminal_snr is True
        return told or begins_from_pure_noise(self.subject.file)


def find_source(path: Path, base: str | None) -> Source:
    """Read an adapter, and find what there is to know of it.

    Args:
        path: A run's folder or an adapter's file.
        base: The base model; None: what it was trained on, if that is known and here.

    Raises:
        AdapterError: There is no adapter, or it does not fit the base.
        ModelError: The base that is named cannot be had.
    """
    return read_source(find_subject(path, base))


def read_source(subject: Subject) -> Source:
    """Read an adapter that was found.

    Raises:
        AdapterError: It does not fit the base.
    """
    folder = folder_around(subject.file)
    known = subject.settings is not None
    return Source(
        subject=subject,
        contents=read_adapter(subject.file, subject.layers),
        stored=None if subject.model is None else StoredWeights(subject.model),
        folder=folder,
        dataset=_read(DatasetFacts, folder.dataset_file) if known else None,
        summary=_read(RunSummary, folder.summary_file) if known else None,
    )


def _read(kind: type[Kind], file: Path) -> Kind | None:
    """Read a record of a run that may not have come so far."""
    return read_record(kind, file) if file.exists() else None
