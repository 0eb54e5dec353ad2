"""Which subjects are still to draw and to be judged, shared out over the slots of a place."""

from rasengan_xl.comparison.facts import Examined, ReferenceFacts
from rasengan_xl.comparison.layout import ComparisonFolder, run_folder, subject_of
from rasengan_xl.comparison.orders import Examine, Subject
from rasengan_xl.comparison.plan import with_seed
from rasengan_xl.comparison.side_by_side import Job
from rasengan_xl.config.comparison_settings import BASE, ComparisonSettings
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.dataset.store import content_key
from rasengan_xl.file_digests import file_digest
from rasengan_xl.runs.folder import RunFolder, read_record

FORMAT = 1
"""Raised when subjects are examined otherwise, so that older examinations are made anew."""
EXAMINE = "draw and judge"
"""What the jobs of this stage are called."""


def list_examinations(
    settings: ComparisonSettings, folder: ComparisonFolder, slots: int
) -> list[Job]:
    """Return a job for each slot that has something left to examine.

    Args:
        settings: Of the comparison, with the learning rates that were trained with.
        folder: Whose finished runs draw.
        slots: How many jobs go on at once.
    """
    subjects = list_subjects(settings, folder)
    left = [subject for subject in subjects if not is_examined(folder, subject)]
    reference_key = _key(settings, None)
    needs_reference = len(subjects) > 1 and not _has_reference(folder, reference_key)
    if needs_reference and not left:  # somebody must be examined for it
        left = subjects[:1]
    shares = [left[slot::slots] for slot in range(min(slots, len(left)))]
    return [
        Job(
            name=EXAMINE if len(shares) == 1 else f"{EXAMINE} {number}",
            order=Examine(
                root=folder.root,
                settings=next(iter(settings.arms.values())),
                pictures=settings.pictures,
                scoring=settings.scoring,
                subjects=tuple(share),
                reference_key=reference_key,
                writes_reference=needs_reference and number == 1,
            ),
            log=folder.log_file(f"{EXAMINE} {number}"),
        )
        for number, share in enumerate(shares, start=1)
    ]


def list_subjects(settings: ComparisonSettings, folder: ComparisonFolder) -> list[Subject]:
    """List the base and every finished run; nobody, if no run is finished."""
    finished = [
        (arm, seed)
        for arm in settings.arms
        for seed in settings.seeds
        if folder.run(arm, seed).is_finished
    ]
    if not finished:
        return []
    on_nf4 = {arm for arm, _ in finished if is_quantized(settings.arms[arm])}
    base = Subject(
        name=BASE,
        run=None,
        on_full_base=bool(on_nf4),
        key=_key(settings, None, bool(on_nf4)),
    )
    return [
        base,
        *(
            Subject(
                name=subject_of(arm, seed),
                run=run_folder(arm, seed),
                on_full_base=arm in on_nf4,
                key=_key(settings, folder.run(arm, seed), arm in on_nf4),
            )
            for arm, seed in finished
        ),
    ]


def is_quantized(settings: RunSettings) -> bool:
    """Tell whether a run's base is stored otherwise than people will use it."""
    return settings.adapter.base_precision != "full"


def is_examined(folder: ComparisonFolder, subject: Subject) -> bool:
    """Tell whether a subject has drawn, and been judged, as is asked now."""
    file = folder.drawn(subject.name).facts_file
    if not file.exists():
        return False
    facts = read_record(Examined, file)
    return facts.key == subject.key and facts.judged


def _has_reference(folder: ComparisonFolder, key: str) -> bool:
    file = folder.reference.facts_file
    return file.exists() and read_record(ReferenceFacts, file).key == key


def _key(
    settings: ComparisonSettings,
    run: RunFolder | None,
    *details: object,
) -> str:
    """Name all that an examination depends on."""
    first = with_seed(next(iter(settings.arms.values())), 0)
    shared = first.model_dump_json(include={"base_model", "base_revision", "dataset", "caption"})
    adapter = file_digest(run.adapter_file) if run else ""
    evaluation, asked = first.evaluation, (settings.pictures, settings.scoring)
    return content_key(
        FORMAT,
        shared,
        first.compute.model_dump_json(),
        evaluation.model_dump_json(exclude={"checkpoint_pictures", "split"}),
        *(part.model_dump_json() for part in asked),
        adapter,
        *details,
    )
