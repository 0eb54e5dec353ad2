"""What an adapter was trained on, and is therefore drawn on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rasengan_xl.adapters.files import begins_from_pure_noise, find_adapter
from rasengan_xl.config.settings import ComputeSettings, RunSettings
from rasengan_xl.errors import AdapterError
from rasengan_xl.runs.finding import find_run
from rasengan_xl.runs.folder import RunFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A base model, and how an adapter was trained on it."""

    base_model: str
    base_revision: str | None
    compute: ComputeSettings
    resolution: int | None
    """Side of the pictures the adapter was trained on, in pixels, if that is known."""
    bucket_multiple: int | None = None
    """Of all sides that it was trained at, in pixels, if that is known."""
    zero_terminal_snr: bool = False
    """Whether the adapter was trained to begin from pure noise, though its base was not."""


def find_ground(adapter: Path, base_model: str | None) -> Ground:
    """Return what an adapter was trained on.

    Args:
        adapter: A run's folder or an adapter's file.
        base_model: What to draw on instead; needed for a file that lies in no run's folder.

    Raises:
        AdapterError: Neither is known.
    """
    folder = find_run(adapter)
    known = folder.read_settings() if folder else None
    if known is None and not adapter.exists():
        raise AdapterError(f"{adapter}: no such file or folder; name a run or an adapter's file")
    if known is None and base_model is None:
        raise AdapterError(
            f"{adapter}: no {RunFolder(adapter).settings_file.name} beside it tells the base "
            "model; name it with --base"
        )
    if known is None:
        from_pure_noise = begins_from_pure_noise(find_adapter(adapter))
        return _bare_ground(base_model or "", from_pure_noise=from_pure_noise)
    return Ground(
        base_model=base_model or known.base_model,
        base_revision=known.base_revision if base_model is None else None,
        compute=known.compute,
        resolution=known.dataset.resolution,
        bucket_multiple=known.dataset.bucket_multiple,
        zero_terminal_snr=known.objective.zero_terminal_snr is True,
    )


def find_common_ground(adapters: Sequence[Path], base_model: str | None) -> list[Ground]:
    """Return what each of several adapters was trained on; or the base alone, if there is none.

    Raises:
        AdapterError: One's base is unknown, or they were trained on different ones.
    """
    if not adapters:
        if base_model is None:
            raise AdapterError("generate: name a run, an adapter's file, or a base with --base")
        return [_bare_ground(base_model, from_pure_noise=False)]
    known = base_model or next(filter(None, map(_known_base, adapters)), None)
    grounds = [
        find_ground(adapter, base_model or _fallback(adapter, known)) for adapter in adapters
    ]
    for adapter, ground in zip(adapters, grounds, strict=True):
        if ground.base_model != grounds[0].base_model:
            raise AdapterError(
                f"{adapter}: was trained on {ground.base_model}, {adapters[0]} on "
                f"{grounds[0].base_model}; name the base to draw on with --base"
            )
    return grounds


def read_run(adapter: Path) -> RunSettings:
    """Read the settings of the run that an adapter is of.

    Raises:
        AdapterError: It is of none.
    """
    folder = find_run(adapter)
    if folder is None:
        raise AdapterError(f"{adapter}: is no run; held-out captions and checkpoints need one")
    return folder.read_settings()


def _known_base(adapter: Path) -> str | None:
    folder = find_run(adapter)
    return folder.read_settings().base_model if folder else None


def _fallback(adapter: Path, known: str | None) -> str | None:
    """Draw a lone file on the base of the runs beside it on the command line."""
    return None if find_run(adapter) else known


def _bare_ground(base_model: str, *, from_pure_noise: bool) -> Ground:
    return Ground(
        base_model=base_model,
        base_revision=None,
        compute=ComputeSettings(),
        resolution=None,
        zero_terminal_snr=from_pure_noise,
    )
