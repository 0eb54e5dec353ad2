"""What a comparison could not say, and why: nothing is left out silently."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from rasengan_xl.comparison.evidence import Evidence
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.evaluation.frechet import frechet_refusal
from rasengan_xl.evaluation.resampling import SMALLEST_SET


def tell_left_out(evidence: Evidence, arms: Mapping[str, RunSettings]) -> Iterator[str]:
    """Say in one line each what is not measured, or not judged."""
    yield from _tell_given(evidence)
    yield from _tell_started(arms)
    yield from _tell_encoders(evidence)
    yield from _tell_distances(evidence)
    yield from _tell_engines(evidence)
    devices = sorted({s.machine.device_name for s in evidence.subjects if s.machine})
    if len(devices) > 1:
        yield f"runs took place on different devices ({', '.join(devices)}): costs are not judged"


def _tell_engines(evidence: Evidence) -> Iterator[str]:
    """Say what arms were not computed alike in, as where memory lets one alone keep everything."""
    used: dict[str, dict[str, set[str]]] = {}
    for subject in evidence.subjects:
        facts = subject.summary.engine if subject.summary else None
        for name, value in (facts or {}).items():
            used.setdefault(name, {}).setdefault(str(value), set()).add(subject.arm)
    apart = [
        f"engine.{name} was {_list_users(users)}" for name, users in used.items() if len(users) > 1
    ]
    if apart:
        yield (
            f"arms were not all computed in one way: {'; '.join(apart)}: their times and memory "
            "are of that, too, not of the methods alone"
        )


def _list_users(users: Mapping[str, set[str]]) -> str:
    return ", ".join(f"{value} in {', '.join(sorted(arms))}" for value, arms in users.items())


def _tell_given(evidence: Evidence) -> Iterator[str]:
    """Say what the figures of an adapter that was not trained here lack, and what they bear."""
    for arm in evidence.arms:
        facts = next(evidence.of(arm)).facts
        if facts is not None and facts.given is not None:
            yield (
                f"{arm}: is given, not trained here: it has no costs of training, no trace hash "
                "and no place in equal wall-clock; being the same for every seed, it is judged as "
                "this one adapter, by its spread over pictures, not as the method that made it; "
                "whether its training saw the held-out pictures is not known here"
            )


def _tell_started(arms: Mapping[str, RunSettings]) -> Iterator[str]:
    """Say what the figures of an arm that goes on from another adapter leave out."""
    for arm, settings in arms.items():
        if settings.adapter.start_from is not None and not settings.is_given:
            yield (
                f"{arm}: goes on from {Path(settings.adapter.start_from).name}: what that one's "
                "training cost is not counted, and whether it saw the held-out pictures is not "
                "known here"
            )


def _tell_encoders(evidence: Evidence) -> Iterator[str]:
    """Say which encoders could not be had, and whom one has not judged."""
    for encoder in evidence.reference.encoders if evidence.reference else ():
        if encoder.absent is not None:
            yield f"{encoder.key}: its columns are left out: {encoder.absent}"
    for encoder in evidence.encoders:
        lacking = sum(encoder not in subject.features for subject in evidence.subjects)
        if lacking:
            yield f"{encoder}: {lacking} runs have not been judged by it, and are left out there"


def _tell_distances(evidence: Evidence) -> Iterator[str]:
    """Say why there are no distances between sets of pictures, or none of Frechet's."""
    if evidence.reference is None or evidence.base.examined is None or not evidence.encoders:
        return
    drawn, held_out = len(evidence.base.examined.prompts), len(evidence.reference.held_out)
    if min(drawn, held_out) < SMALLEST_SET:
        yield (
            f"CMMD, KID and diversity are not given: there are {drawn} drawn and {held_out} "
            f"held-out pictures, and they need {SMALLEST_SET} of both"
        )
    refusal = frechet_refusal(drawn, held_out)
    if refusal is not None:
        yield refusal
