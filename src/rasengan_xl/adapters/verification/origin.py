"""Whether an adapter is as it was trained, and its base the one it was trained on."""

from rasengan_xl.adapters.verification.outcomes import not_checked, noted, outcome
from rasengan_xl.adapters.verification.subject import Subject
from rasengan_xl.file_digests import file_digest
from rasengan_xl.runs.verification import Check

_NAME = "base model"


def check_origin(subject: Subject) -> Check:
    """Compare the SHA-256 of every part.

    On another UNet an adapter does something else than what was measured of it: that is a
    failure.  Another text encoder, VAE or scheduler is noted.
    """
    if subject.model is None:
        return not_checked(_NAME, subject.without_base)
    if subject.trained_on is None:
        return not_checked(_NAME, "the file does not tell which weights it was trained on")
    given, trained_on = subject.model.facts(), subject.trained_on
    changed = [name for name, digest in given.parts.items() if trained_on.parts.get(name) != digest]
    figures = {"parts": len(given.parts), "parts_that_differ": len(changed)}
    if "unet" in changed:
        fault = (
            f"{given.name} is not what it was trained on, {trained_on.name}: "
            f"other {', '.join(changed)}"
        )
        return outcome(_NAME, fault, "", **figures)
    if changed:
        detail = f"the UNet of {given.name} is what it was trained on; other {', '.join(changed)}"
        return noted(_NAME, detail, **figures)
    return outcome(_NAME, "", f"{given.name}: all {len(given.parts)} parts are the same", **figures)


def check_unaltered(subject: Subject) -> list[Check]:
    """Check that a run's file is still the one that was verified after training."""
    if subject.verified is None:
        return []
    is_same = file_digest(subject.file) == subject.verified.sha256
    fault = "" if is_same else "the file is not the one that was verified after training"
    found = "the file is, to the bit, the one that was verified after training"
    return [outcome("as trained", fault, found)]
