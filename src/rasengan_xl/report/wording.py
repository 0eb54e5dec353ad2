"""The sentences of the page: what was compared, what stands out, and how far to trust it."""

from collections.abc import Callable, Sequence

from rasengan_xl.comparison.result import ArmResult, Comparison
from rasengan_xl.report.numbers import (
    write_count,
    write_counted,
    write_gib,
    write_seconds,
)
from rasengan_xl.report.settings import write_setting

CAVEAT = (
    "Every arm was trained once, with one seed: a small difference between arms is not evidence "
    "that one method is better. A standard error says how sure a loss is on these held-out "
    "pictures, not what another seed would give."
)
PICTURE_KEYS = ("sampler_steps", "guidance", "size")
"""Settings that are named above the pictures; all of them stand at the end of the page."""
CLEARLY = 2.0
"""Standard errors from which on a change of the held-out loss is called clear."""


def describe_comparison(comparison: Comparison) -> str:
    """Say in one sentence what was compared, on what."""
    ways = f"{write_counted(len(comparison.arms), 'way')} of fine-tuning {comparison.base_model}"
    seeds, data = _name_seeds(comparison.arms), comparison.dataset
    if data is None:
        return f"{ways} with {seeds}; none came far enough to say on which pictures."
    return (
        f"{ways}, trained on the same {write_counted(data.train, 'picture')} from {data.source} "
        f"with {seeds}; {write_count(data.held_out)} more were held out to judge them by."
    )


def describe_pictures(comparison: Comparison) -> str:
    """Say how the pictures were drawn."""
    settings = comparison.picture_settings
    shown = [key for key in PICTURE_KEYS if key in settings and settings[key] is not None]
    how = ", ".join(f"{key.replace('_', ' ')} {write_setting(settings[key])}" for key in shown)
    return f"Each row starts from the same noise. {how[:1].upper()}{how[1:]}." if how else ""


def describe_traces(arms: Sequence[ArmResult]) -> str:
    """Say whether the arms saw the same pictures, timesteps and noise."""
    hashes = [arm.trace_hash for arm in arms if arm.trace_hash is not None]
    if len(hashes) < 2:
        return "Fewer than two arms have a trace hash, so there is none to compare it with."
    if saw_the_same(arms):
        return (
            f"All {len(hashes)} trace hashes are equal: these arms saw the same pictures, "
            "timesteps and noise, in the same order."
        )
    return (
        f"The {len(hashes)} trace hashes are not all equal: these arms did not see the same "
        "pictures, timesteps and noise, so their losses are not paired."
    )


def saw_the_same(arms: Sequence[ArmResult]) -> bool:
    """Whether at least two arms have a trace hash, and all that have one agree."""
    hashes = [arm.trace_hash for arm in arms if arm.trace_hash is not None]
    return len(hashes) >= 2 and len(set(hashes)) == 1


def list_findings(arms: Sequence[ArmResult]) -> list[str]:
    """Say what stands out, as far as the figures bear it."""
    memory = {arm.name: arm.peak_memory_gib for arm in arms if arm.peak_memory_gib}
    speed = {arm.name: arm.seconds_per_step.median for arm in arms if arm.seconds_per_step}
    findings = [
        _name_extremes(memory, "needs the least memory", write_gib),
        _name_extremes(speed, "takes the shortest steps", write_seconds),
        _judge_losses(arms),
    ]
    return [finding for finding in findings if finding]


def _name_seeds(arms: Sequence[ArmResult]) -> str:
    seeds = sorted({arm.seed for arm in arms})
    numbers = ", ".join(str(seed) for seed in seeds)
    return f"seed {numbers}" if len(seeds) == 1 else f"seeds {numbers or 'unknown'}"


def _name_extremes(
    figures: dict[str, float], claim: str, write: Callable[[float], str]
) -> str | None:
    if len(figures) < 2:
        return None
    least, most = min(figures, key=figures.__getitem__), max(figures, key=figures.__getitem__)
    if figures[least] <= 0 or write(figures[least]) == write(figures[most]):
        return None
    times = figures[most] / figures[least]
    return (
        f"{least} {claim} ({write(figures[least])}); {most} needs {times:.2f} times as much "
        f"({write(figures[most])})."
    )


def _judge_losses(arms: Sequence[ArmResult]) -> str | None:
    losses = [arm.held_out_loss for arm in arms if arm.held_out_loss]
    if not losses:
        return None
    lower = sum(loss.difference < -CLEARLY * loss.difference_standard_error for loss in losses)
    return (
        f"{lower} of {write_counted(len(losses), 'arm')} lowered the held-out loss of their base "
        f"by more than {CLEARLY:g} standard errors."
    )
