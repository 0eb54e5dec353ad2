"""What pictures are drawn with: the base, adapters at strengths, the checkpoints of a run."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rasengan_xl.adapters.files import find_adapter
from rasengan_xl.config.comparison_settings import BASE
from rasengan_xl.config.drawing_settings import DrawingSettings
from rasengan_xl.errors import AdapterError, RecipeError
from rasengan_xl.generation.ground import Ground
from rasengan_xl.generation.parameters_text import UsedAdapter
from rasengan_xl.runs.finding import find_run
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.tensor_file import read_header

_HASH_ENTRY, _HASH_DIGITS = "sshs_model_hash", 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What one column of pictures is drawn with."""

    label: str
    """What stands above the column."""
    files: tuple[Path, ...] = ()
    """Of its adapters, or a checkpoint; none: the base alone."""
    strengths: tuple[float, ...] = ()
    """One for each file."""
    from_pure_noise: bool = False
    """Whether an adapter was trained to begin there, though its base was not."""

    @property
    def slug(self) -> str:
        """The label as a part of a file's name."""
        together = self.label.replace(" + ", "+")
        return re.sub(r"[^\w.+-]+", "-", together, flags=re.ASCII).strip("-.")[:60] or "picture"


def list_subjects(
    adapters: Sequence[Path], grounds: Sequence[Ground], settings: DrawingSettings
) -> list[Subject]:
    """List what is drawn with, from left to right.

    Args:
        adapters: Runs' folders or adapters' files.
        grounds: What each was trained on.
        settings: Which sweep, if any.

    Raises:
        AdapterError: One is missing, or checkpoints are asked for of what is no run.
        RecipeError: There are not as many weights as adapters.
    """
    if not adapters:
        _refuse_what_needs_adapters(settings)
        return [Subject(label=BASE)]
    weights = settings.weights or (1.0,) * len(adapters)
    if len(weights) != len(adapters):
        raise RecipeError(
            f"generate: weights names {len(weights)}, and there are {len(adapters)} adapters; "
            "give one for each"
        )
    pure = any(ground.zero_terminal_snr for ground in grounds)
    if settings.checkpoints:
        tuned = _list_checkpoints(adapters, settings.strengths[0] * weights[0], pure=pure)
    else:
        files = tuple(_find_adapter(adapter) for adapter in adapters)
        names = " + ".join(map(adapter_name, files))
        is_sweep = len(settings.strengths) > 1
        tuned = [
            Subject(
                label=f"strength {strength:g}" if is_sweep else names,
                files=files,
                strengths=tuple(strength * weight for weight in weights),
                from_pure_noise=pure and strength != 0,
            )
            for strength in settings.strengths
        ]
    has_base = any(not any(subject.strengths) for subject in tuned)
    return [*([Subject(label=BASE)] if settings.with_base and not has_base else []), *tuned]


def adapter_name(file: Path) -> str:
    """Name an adapter as people would its file: by its run, if it lies in one's folder."""
    folder = find_run(file)
    if folder is None:
        return file.stem
    name = folder.path.resolve().name
    if is_checkpoint(file):
        return f"{name}-{file.stem}"
    return f"{name}-best" if file.resolve() == folder.best_adapter_file.resolve() else name


def describe_used(subject: Subject) -> tuple[UsedAdapter, ...]:
    """Describe a subject's adapters for a picture's settings."""
    return tuple(
        UsedAdapter(
            name=adapter_name(file),
            file=str(file),
            strength=strength,
            a1111_hash=None if is_checkpoint(file) else _a1111_hash(file),
        )
        for file, strength in zip(subject.files, subject.strengths, strict=True)
        if strength
    )


def is_checkpoint(file: Path) -> bool:
    """Tell whether a file is a checkpoint of a run, which holds more than an adapter."""
    folder = find_run(file)
    return folder is not None and file.resolve().parent == folder.checkpoints_folder.resolve()


def _find_adapter(adapter: Path) -> Path:
    run = RunFolder(adapter)
    if run.is_begun and not run.adapter_file.exists():
        raise AdapterError(
            f"{adapter}: has no adapter yet; go on with train --resume, or draw what it has kept "
            "with --checkpoints"
        )
    return find_adapter(adapter)


def _refuse_what_needs_adapters(settings: DrawingSettings) -> None:
    needing = {
        "--weights": bool(settings.weights),
        "--strength": settings.strengths != (1.0,),
        "--checkpoints": settings.checkpoints,
        "--no-base": not settings.with_base,
    }
    if given := [option for option, is_given in needing.items() if is_given]:
        raise RecipeError(f"generate: {given[0]} needs an adapter; name a run or a file")


def _list_checkpoints(adapters: Sequence[Path], strength: float, *, pure: bool) -> list[Subject]:
    run = find_run(adapters[0])
    if len(adapters) > 1 or run is None:
        raise AdapterError("generate: --checkpoints draws with those of one run; name its folder")
    found = [(f"step {step}", file) for step, file in sorted(run.checkpoints().items())]
    if best := run.best():
        found.append((f"best (step {best.step})", run.best_adapter_file))
    if not found:
        raise AdapterError(f"{run.path}: keeps no checkpoints; leave --checkpoints out")
    return [
        Subject(label=label, files=(file,), strengths=(strength,), from_pure_noise=pure)
        for label, file in found
    ]


def _a1111_hash(file: Path) -> str:
    """Return what A1111 knows an adapter's file by: a SHA-256 of what follows the header."""
    if known := read_header(file).get(_HASH_ENTRY):
        return known[:_HASH_DIGITS]
    with file.open("rb") as content:
        content.seek(int.from_bytes(content.read(8), "little") + 8)
        return hashlib.file_digest(content, "sha256").hexdigest()[:_HASH_DIGITS]
