"""Which subjects are still to draw and to be judged, shared out over the slots of a place."""

from rasengan_xl.comparison.facts import Examined, PreparedFacts, ReferenceFacts
from rasengan_xl.comparison.layout import ComparisonFolder, run_folder, subject_of
from rasengan_xl.comparison.orders import Examine, Subject
from rasengan_xl.comparison.side_by_side import Job
from rasengan_xl.config.base_precisions import STORAGES
from rasengan_xl.config.comparison_settings import BASE, ComparisonSettings
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.dataset.store import content_key
from rasengan_xl.errors import OutputError
from rasengan_xl.file_digests import file_digest
from rasengan_xl.runs.folder import RunFolder, read_if_sound, read_record

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
    judge_key = name_judges(settings)
    needs_reference = bool(subjects) and not _has_reference(folder, judge_key)
    left = [
        subject
        for subject in subjects
        if needs_reference or not is_examined(folder, subject, judge_key)
    ]
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
                judge_key=judge_key,
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
    quantized = {arm for arm, _ in finished if is_quantized(settings.arms[arm])}
    shared = _name_shared(settings, folder)
    base = Subject(name=BASE, run=None, on_full_base=bool(quantized), key=shared)
    return [
        base,
        *(
            Subject(
                name=subject_of(arm, seed),
                run=run_folder(arm, seed),
                on_full_base=arm in quantized,
                key=content_key(shared, _digest_adapter(folder.run(arm, seed))),
            )
            for arm, seed in finished
        ),
    ]


def is_quantized(settings: RunSettings) -> bool:
    """Tell whether a run's base is stored otherwise than people will use it."""
    return STORAGES[settings.adapter.base_precision].is_quantized


def is_examined(folder: ComparisonFolder, subject: Subject, judge_key: str) -> bool:
    """Tell whether a subject has drawn, and been judged, as is asked now."""
    facts = read_drawn(folder, subject)
    return facts is not None and facts.judge_key == judge_key and facts.failure is None


def read_drawn(folder: ComparisonFolder, subject: Subject) -> Examined | None:
    """Return what a subject has drawn before, if that is what is asked now."""
    facts = read_if_sound(Examined, folder.drawn(subject.name).facts_file)
    if facts is None or facts.key != subject.key:
        return None
    return facts if facts.losses is not None or not subject.on_full_base else None


def name_judges(settings: ComparisonSettings) -> str:
    """Name the encoders that are to have their say, and on what."""
    told = settings.scoring.model_dump_json(exclude={"batch_size", "sampler_steps"})
    return content_key(FORMAT, told)


def _has_reference(folder: ComparisonFolder, key: str) -> bool:
    """Tell whether the reference is known; an encoder that could not be had is tried again."""
    known = read_if_sound(ReferenceFacts, folder.reference.facts_file)
    return known is not None and known.key == key and not any(e.absent for e in known.encoders)


def _name_shared(settings: ComparisonSettings, folder: ComparisonFolder) -> str:
    """Name all that the pictures and losses of every subject depend on, but for its adapter."""
    first, pictures = next(iter(settings.arms.values())), settings.pictures
    prepared = read_record(PreparedFacts, folder.prepared_file)
    arms_agree_on = first.model_dump_json(
        include={"base_model", "base_revision", "dataset", "caption", "compute", "evaluation"},
        exclude={"caption": {"dropout", "null"}, "evaluation": {"checkpoint_pictures", "split"}},
    )
    return content_key(
        FORMAT,
        arms_agree_on,
        first.objective.zero_terminal_snr,
        prepared.dataset_fingerprint,
        prepared.model.model_dump_json(),
        pictures.model_dump_json(exclude={"batch_size"}),
        settings.scoring.model_dump_json(include={"pictures", "sampler_steps", "neutral_prompts"}),
    )


def _digest_adapter(run: RunFolder) -> str:
    try:
        return file_digest(run.adapter_file)
    except OSError as error:
        raise OutputError(
            f"{run.adapter_file}: cannot be read ({error.strerror}); restore it, or remove "
            f"{run.path} to have it run anew"
        ) from error
