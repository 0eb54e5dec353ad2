"""What can be told of an adapter that is understood, without its base."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import torch
from torch import Tensor

from rasengan_xl.adapters.changes import Change
from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.adapters.reading.any_form import read_adapter
from rasengan_xl.adapters.verification.counts import expected_parameters
from rasengan_xl.adapters.verification.file_checks import AdapterFile
from rasengan_xl.adapters.verification.kinds import alpha_of
from rasengan_xl.adapters.verification.outcomes import first_of, outcome, plural
from rasengan_xl.config.settings import AdapterSettings
from rasengan_xl.errors import AdapterError
from rasengan_xl.runs.verification import Check
from rasengan_xl.sdxl.layers import ModelLayers
from rasengan_xl.tensor_file import UNREADABLE, write_tensors


def check_count(
    contents: AdapterContents, layers: ModelLayers, predicted: int | None = None
) -> Check:
    """Check how many numbers there are.

    Args:
        contents: The adapter.
        layers: Of the base.
        predicted: What the run's settings come to; None: no run is known.
    """
    found = contents.parameter_count
    shapes, changes = layers.shapes, contents.changes
    expected = sum(expected_parameters(change, shapes[name]) for name, change in changes.items())
    figures = {"parameters": found, "by_ranks_and_shapes": expected}
    if predicted is not None:
        figures["by_settings"] = predicted
    wrong = [
        f"{count:,} by {source}"
        for count, source in ((expected, "ranks and shapes"), (predicted, "the run's settings"))
        if count not in {None, found}
    ]
    fault = f"{found:,} parameters, but {' and '.join(wrong)}" if wrong else ""
    by = "ranks and shapes" + (" and the run's settings" if predicted is not None else "")
    return outcome("parameter count", fault, f"{found:,}, as by {by}", **figures)


def check_scale(contents: AdapterContents, settings: AdapterSettings | None = None) -> Check:
    """Check what each layer's product of factors is multiplied by.

    Args:
        contents: The adapter.
        settings: Of its run; None: any scale but none is taken as meant.
    """
    scales = {name: change.scale for name, change in contents.changes.items()}
    counts = Counter(f"{scale:.6g}" for scale in scales.values())
    listed = ", ".join(f"{s} on {plural(n, 'layer')}" for s, n in counts.most_common(4))
    if len(counts) > 4:
        listed += f", {len(counts) - 4} other values"
    if settings is None:
        bad = [name for name, scale in scales.items() if not math.isfinite(scale) or scale == 0]
        fault = f"no effect on {plural(len(bad), 'layer')}: {first_of(bad)}" if bad else ""
        return outcome("scale", fault, f"{listed}{_describe_alpha(contents)}", **counts)
    bad = [name for name, scale in scales.items() if not is_expected_scale(settings, name, scale)]
    wanted = f"{settings.scale_of(bad[0].partition('.')[2]):.6g}" if bad else ""
    fault = f"{listed}; the run's settings make it {wanted} on {first_of(bad)}" if bad else ""
    divisor = f"sqrt({settings.rank})" if settings.rank_stabilized else f"{settings.rank}"
    formula = f" = {settings.alpha:g} / {divisor}" if not settings.layer_shapes else ""
    return outcome("scale", fault, f"{listed}{formula}", **counts)


def is_expected_scale(settings: AdapterSettings, layer: str, scale: float) -> bool:
    """Tell whether a layer of the UNet has the scale that a run's settings give it."""
    return math.isclose(scale, settings.scale_of(layer.partition(".")[2]), rel_tol=1e-6)


def check_round_trip(file: AdapterFile, layers: ModelLayers) -> Check:
    """Write the file anew, read it, and compare every bit."""
    assert file.contents is not None
    with TemporaryDirectory() as place:
        copy = Path(place, file.path.name)
        write_tensors(copy, file.tensors, file.header)
        try:
            changed = _find_difference(file.contents.changes, read_adapter(copy, layers).changes)
        except (AdapterError, *UNREADABLE) as error:
            changed = [str(error)]
    fault = f"written and read again, it is another: {first_of(changed)}" if changed else ""
    return outcome("round trip", fault, "written and read again, every bit is the same")


def _describe_alpha(contents: AdapterContents) -> str:
    pairs = {(alpha_of(change), change.rank) for change in contents.changes.values()}
    if len(pairs) != 1:
        return ""
    alpha, rank = next(iter(pairs))
    return "" if alpha is None or rank is None else f" (alpha {alpha:g}, rank {rank})"


def _find_difference(first: Mapping[str, Change], second: Mapping[str, Change]) -> list[str]:
    """Name the layers that are not the same to the bit."""
    missing = first.keys() ^ second.keys()
    common = first.keys() & second.keys()
    return sorted(missing) + sorted(n for n in common if not _same(first[n], second[n]))


def _same(first: Change, second: Change) -> bool:
    return list(_values(first)) == list(_values(second))


def _values(value: object) -> Iterator[object]:
    """Yield all that a change consists of, tensors as their bytes."""
    if isinstance(value, Tensor):
        bits: Tensor = value.contiguous().reshape(-1).view(torch.uint8)
        yield (value.dtype, value.shape, bits.numpy().tobytes())
    elif isinstance(value, tuple):
        for item in cast("tuple[object, ...]", value):
            yield from _values(item)
    elif is_dataclass(value):
        yield type(value)
        for field in fields(value):
            yield from _values(getattr(value, field.name))
    else:
        yield value
