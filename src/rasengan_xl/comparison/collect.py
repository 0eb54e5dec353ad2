"""Put together what the runs, and those who examined them, left in their folders."""

from typing import Any

from rasengan_xl.comparison.equal_time import RunCourse, stand_at_equal_time
from rasengan_xl.comparison.evidence import Evidence, gather_evidence
from rasengan_xl.comparison.examination import list_subjects, read_drawn
from rasengan_xl.comparison.facts import ArmFacts, FailureFacts, PreparedFacts
from rasengan_xl.comparison.layout import ComparisonFolder, subject_of
from rasengan_xl.comparison.measures.all import judge_all, measure_all
from rasengan_xl.comparison.measures.losses import PRIMARY
from rasengan_xl.comparison.notes import tell_left_out
from rasengan_xl.comparison.result import (
    ArmResult,
    Comparison,
    NearestPicture,
    PictureRow,
    RunResult,
)
from rasengan_xl.comparison.strata import find_quantization_effect, split_by_timestep
from rasengan_xl.comparison.sweep import Sweep, tell_edges
from rasengan_xl.config.comparison import differences
from rasengan_xl.config.comparison_settings import BASE, ComparisonSettings
from rasengan_xl.generation.requests import list_requests
from rasengan_xl.runs.folder import read_if_sound, read_record
from rasengan_xl.runs.records import DatasetFacts, Machine, PeakMemory, RunSummary

NEAREST_SHOWN = 6
"""Drawn pictures that are shown beside the training picture most like them."""


def collect_comparison(
    settings: ComparisonSettings, sweep: Sweep, folder: ComparisonFolder, *, running: bool
) -> Comparison:
    """Describe a comparison as far as it has come.

    Args:
        settings: With the learning rates that were chosen.
        sweep: How they were.
        folder: Where everything lies.
        running: Whether there is more to come; what is measured over all arms is then left out.

    Raises:
        OutputError: A file is damaged.
    """
    prepared = read_if_sound(PreparedFacts, folder.prepared_file)
    first = next(iter(settings.arms.values()))
    arms = _describe_arms(settings, folder, prepared)
    result = Comparison(
        name=settings.name,
        status="running" if running else "finished",
        design=settings.design,
        varies=list(settings.varies),
        seeds=list(settings.seeds),
        base_model=first.base_model,
        command="",
        dataset=_find_dataset(settings, folder),
        machine=_find_machine(settings, folder),
        jobs=1,
        picture_settings=settings.pictures.model_dump(mode="json"),
        scoring_settings=settings.scoring.model_dump(mode="json"),
        arms=arms,
        pictures=_list_pictures(settings, folder),
        sweep=sweep,
        probe=prepared.probe if prepared else None,
        memory=[prepared.memory] if prepared and prepared.memory else [],
        notes=list(tell_edges(sweep)),
    )
    return result if running else _conclude(result, settings, folder)


def _conclude(
    result: Comparison, settings: ComparisonSettings, folder: ComparisonFolder
) -> Comparison:
    """Add what is measured over all arms together."""
    evidence = gather_evidence(settings, folder)
    measured = measure_all(evidence)
    courses = {
        arm.name: {run.seed: RunCourse(folder.run(arm.name, run.seed)) for run in arm.finished}
        for arm in result.arms
        if not settings.arms[arm.name].is_given  # it took no time that could be equal
    }
    found: dict[str, Any] = {
        "primary": PRIMARY if any(each.measure.key == PRIMARY for each in measured) else None,
        "measures": [each.measure for each in measured],
        "verdicts": judge_all(measured),
        "strata": split_by_timestep(evidence),
        "quantization": find_quantization_effect(evidence),
        "equal_time": stand_at_equal_time(courses),
        "nearest": _list_nearest(evidence, folder),
        "encoders": evidence.reference.encoders if evidence.reference else [],
        "memory": [*result.memory, *_drawing_memory(evidence)],
        "notes": [*result.notes, *tell_left_out(evidence, settings.arms)],
    }
    return result.model_copy(update=found)


def _describe_arms(
    settings: ComparisonSettings, folder: ComparisonFolder, prepared: PreparedFacts | None
) -> list[ArmResult]:
    differing = differences(settings.arms)
    arms: list[ArmResult] = []
    for name, arm in settings.arms.items():
        facts = prepared.arms.get(name) if prepared else None
        runs = [_describe_run(name, seed, folder) for seed in settings.seeds]
        sizes = [run.summary.adapter_bytes for run in runs if run.summary]
        arms.append(
            ArmResult(
                name=name,
                settings=arm.model_dump(mode="json", exclude={"seed"}),
                differs=differing[name],
                runs=runs,
                adapter_bytes=sizes[0] if sizes else None,
                **_count(facts),
            )
        )
    return arms


def _count(facts: ArmFacts | None) -> dict[str, Any]:
    return facts.model_dump() if facts else {}


def _describe_run(arm: str, seed: int, folder: ComparisonFolder) -> RunResult:
    run = folder.run(arm, seed)
    failed = folder.failure_file(subject_of(arm, seed))
    failure = read_record(FailureFacts, failed) if failed.exists() else None
    described = RunResult(
        seed=seed,
        status="missing",
        attempts=failure.attempts if failure else 1,
        run=folder.relative(run.path),
    )
    if run.is_finished:
        course, summary = RunCourse(run), read_record(RunSummary, run.summary_file)
        found: dict[str, Any] = {
            "status": "finished",
            "summary": summary,
            "checkpoints": course.checkpoints,
            "seconds": None if summary.seconds is None else course.seconds,
            "joules_per_step": summary.joules_per_step,
        }
        return described.model_copy(update=found)
    if failure and failure.reason is not None:
        return described.model_copy(update={"status": "failed", "reason": failure.reason})
    return described


def _find_dataset(settings: ComparisonSettings, folder: ComparisonFolder) -> DatasetFacts | None:
    runs = (folder.run(arm, seed) for arm in settings.arms for seed in settings.seeds)
    origin = next((run for run in runs if run.has_origin), None)
    return read_record(DatasetFacts, origin.dataset_file) if origin else None


def _find_machine(settings: ComparisonSettings, folder: ComparisonFolder) -> Machine | None:
    runs = (folder.run(arm, seed) for arm in settings.arms for seed in settings.seeds)
    origin = next((run for run in runs if run.has_origin), None)
    return read_record(Machine, origin.machine_file) if origin else None


def _list_pictures(settings: ComparisonSettings, folder: ComparisonFolder) -> list[PictureRow]:
    """List the pictures that are shown, of every subject that has drawn; none before."""
    if not folder.prepared_file.exists():
        return []
    known = {s.name: read_drawn(folder, s) for s in list_subjects(settings, folder)}
    drawn = {name for name, facts in known.items() if facts is not None and facts.failure is None}
    if BASE not in drawn:
        return []

    def path(subject: str, number: int) -> str:
        return folder.relative(folder.drawn(subject).picture_file("shown", number))

    return [
        PictureRow(
            prompt=request.prompt,
            seed=request.seed,
            base=path(BASE, number),
            arms={
                arm: {
                    str(seed): path(subject_of(arm, seed), number)
                    for seed in settings.seeds
                    if subject_of(arm, seed) in drawn
                }
                for arm in settings.arms
                if any(subject_of(arm, seed) in drawn for seed in settings.seeds)
            },
        )
        for number, request in enumerate(list_requests(settings.pictures))
    ]


def _list_nearest(evidence: Evidence, folder: ComparisonFolder) -> list[NearestPicture]:
    """List the drawn pictures most like a training picture, the likest first."""
    found: list[NearestPicture] = []
    for subject in (evidence.base, *evidence.subjects):
        if subject.examined is None:
            continue
        drawn = folder.drawn(
            BASE if subject.seed is None else subject_of(subject.arm, subject.seed)
        )
        found += [
            NearestPicture(
                arm=subject.arm,
                seed=subject.seed,
                prompt=subject.examined.prompts[each.number],
                drawn=folder.relative(drawn.picture_file("scored", each.number)),
                training=folder.relative(drawn.nearest_file(each.number)),
                training_name=each.training_name,
                similarity=each.similarity,
            )
            for each in subject.examined.nearest
        ]
    return sorted(found, key=lambda each: -each.similarity)[:NEAREST_SHOWN]


def _drawing_memory(evidence: Evidence) -> list[PeakMemory]:
    """Return the peak of drawing where it cannot be told for each arm: one process drew for all."""
    subjects = (evidence.base, *evidence.subjects)
    peaks = [s.examined.memory for s in subjects if s.examined is not None]
    shared = [peak for peak in peaks if peak and peak.kind == "process resident"]
    return [max(shared, key=lambda peak: peak.allocated_gib)] if shared else []
