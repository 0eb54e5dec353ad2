"""Everything that runs and examinations left behind, as arrays to be compared."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from rasengan_xl.comparison.facts import ArmFacts, Examined, PreparedFacts, ReferenceFacts
from rasengan_xl.comparison.layout import ComparisonFolder, DrawnFolder, subject_of
from rasengan_xl.comparison.plan import with_seed
from rasengan_xl.comparison.result import Probe
from rasengan_xl.config.base_precisions import STORAGES, BasePrecision
from rasengan_xl.config.comparison_settings import BASE, ComparisonSettings
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.errors import OutputError
from rasengan_xl.evaluation.samples import Seed
from rasengan_xl.runs.folder import RunFolder, read_if_sound, read_record
from rasengan_xl.runs.records import Machine, RunSummary, TableLosses
from rasengan_xl.runs.resuming import global_batch
from rasengan_xl.tensor_file import UNREADABLE, read_tensors

Losses = Float[np.ndarray, "picture timestep"]
Features = dict[str, Float[np.ndarray, "picture width"]]
"""Of the pictures of each kind, such as `scored`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The base, or an arm trained with a seed, with all that is known of it."""

    arm: str
    seed: Seed
    """None of the base."""
    base_precision: BasePrecision
    """Of the base that it was trained on."""
    pictures_per_step: int
    """That all processes together see in an optimizer step."""
    facts: ArmFacts | None
    """What was found out of the arm beforehand; None of the base."""
    machine: Machine | None
    """Where it was trained; None of the base."""
    summary: RunSummary | None
    """None of the base."""
    table: TableLosses | None
    """On the base as the run stores it; None of the base."""
    examined: Examined | None
    """None if it has not drawn yet."""
    features: dict[str, Features]
    """By encoder."""

    @property
    def quantized(self) -> bool:
        """Whether it was trained on a base in fewer bits."""
        return STORAGES[self.base_precision].is_quantized

    @property
    def losses_on_full(self) -> Losses | None:
        """Held-out losses on the unquantized base; None if they are not known."""
        if self.examined is not None and self.examined.losses is not None:
            return np.array(self.examined.losses)
        if self.table is not None and not self.quantized:
            return np.array(self.table.adapted)
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that a comparison has to show."""

    base: Subject
    subjects: tuple[Subject, ...]
    """Every finished run, in the order of arms and seeds."""
    probe: Probe | None
    """What the device can do at most."""
    reference: ReferenceFacts | None
    reference_features: dict[str, Features]
    """By encoder."""

    def of(self, arm: str) -> Iterator[Subject]:
        """Go through the subjects of an arm."""
        return (subject for subject in self.subjects if subject.arm == arm)

    @property
    def arms(self) -> list[str]:
        """Arms with a finished run, in order."""
        return list(dict.fromkeys(subject.arm for subject in self.subjects))

    @property
    def encoders(self) -> list[str]:
        """Encoders that judged."""
        return list(self.reference_features)

    @property
    def base_losses_on_full(self) -> Losses | None:
        """Held-out losses of the unquantized base without adapter."""
        if (own := self.base.losses_on_full) is not None:
            return own
        full = (s.table for s in self.subjects if s.table is not None and not s.quantized)
        table = next(full, None)
        return None if table is None else np.array(table.base)

    @property
    def quantized_base_losses(self) -> dict[BasePrecision, Losses]:
        """Held-out losses without adapter, of each base in fewer bits."""
        found: dict[BasePrecision, Losses] = {}
        for subject in self.subjects:
            if subject.quantized and subject.table is not None:
                found.setdefault(subject.base_precision, np.array(subject.table.base))
        return found


def gather_evidence(settings: ComparisonSettings, folder: ComparisonFolder) -> Evidence:
    """Read everything that finished runs and examinations left.

    Raises:
        OutputError: A file is damaged, or runs were measured on different pictures.
    """
    prepared = read_if_sound(PreparedFacts, folder.prepared_file)
    subjects = tuple(
        _gather_run(arm, with_seed(settings.arms[arm], seed), folder, prepared)
        for arm in settings.arms
        for seed in settings.seeds
        if folder.run(arm, seed).is_finished
    )
    reference = read_if_sound(ReferenceFacts, folder.reference.facts_file)
    encoders = [e.key for e in reference.encoders if e.absent is None] if reference else []
    drawn = folder.drawn(BASE)
    base = Subject(
        arm=BASE,
        seed=None,
        base_precision="full",
        pictures_per_step=0,
        facts=None,
        machine=None,
        summary=None,
        table=None,
        examined=_read_examined(drawn),
        features=_read_features(drawn, encoders),
    )
    _refuse_different_tables(subjects, base, folder)
    return Evidence(
        base=base,
        subjects=tuple(
            replace(
                subject,
                features=_read_features(folder.drawn(_name(subject)), encoders),
            )
            for subject in subjects
        ),
        probe=prepared.probe if prepared else None,
        reference=reference,
        reference_features=_read_features(folder.reference, encoders),
    )


def _name(subject: Subject) -> str:
    return BASE if subject.seed is None else subject_of(subject.arm, subject.seed)


def _gather_run(
    arm: str, settings: RunSettings, folder: ComparisonFolder, prepared: PreparedFacts | None
) -> Subject:
    run = folder.run(arm, settings.seed)
    drawn = folder.drawn(subject_of(arm, settings.seed))
    machine = read_record(Machine, run.machine_file)
    return Subject(
        arm=arm,
        seed=settings.seed,
        base_precision=settings.adapter.base_precision,
        pictures_per_step=global_batch(settings, machine.processes),
        facts=prepared.arms.get(arm) if prepared else None,
        machine=machine,
        summary=read_record(RunSummary, run.summary_file),
        table=_read_table(run),
        examined=_read_examined(drawn),
        features={},
    )


def _read_table(run: RunFolder) -> TableLosses:
    return read_record(TableLosses, run.table_losses_file)


def _read_examined(drawn: DrawnFolder) -> Examined | None:
    """Return what was measured of a subject's pictures; None if that did not come to its end."""
    found = read_if_sound(Examined, drawn.facts_file)
    return found if found is not None and found.judge_key is not None else None


def _read_features(drawn: DrawnFolder, encoders: Sequence[str]) -> dict[str, Features]:
    """Read the features of the encoders that had their say; files of others are of no account."""
    features: dict[str, Features] = {}
    for file in (drawn.features_file(encoder) for encoder in encoders):
        if not file.exists():
            continue
        try:
            tensors = read_tensors(file)
        except UNREADABLE as error:
            raise OutputError(
                f"{file}: is damaged; remove {drawn.path} to have it made anew"
            ) from error
        key = file.stem.removeprefix("features-")
        features[key] = {name: tensor.numpy() for name, tensor in tensors.items()}
    return features


def _refuse_different_tables(
    subjects: Sequence[Subject], base: Subject, folder: ComparisonFolder
) -> None:
    """Losses are paired picture by picture: they must be of the same ones, also the base's."""
    tables = [s.table.digests for s in subjects if s.table]
    tables += [s.examined.table for s in (base, *subjects) if s.examined and s.examined.losses]
    timesteps = {tuple(s.table.timesteps) for s in subjects if s.table}
    if len({tuple(table) for table in tables}) > 1 or len(timesteps) > 1:
        raise OutputError(
            f"{folder.root}: its runs were measured on different held-out pictures: the dataset "
            "has changed between them; choose another --out"
        )
