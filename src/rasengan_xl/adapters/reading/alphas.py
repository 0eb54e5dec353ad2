"""How strongly each layer's factors are meant: its alpha."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, prod

from rasengan_xl.adapters.reading.faults import fault, shown
from rasengan_xl.adapters.reading.layer_keys import LayerKeys, SortedKeys
from rasengan_xl.adapters.reading.peft_metadata import (
    CONFIG_FILE,
    METADATA_KEY,
    PeftSettings,
    read_config_file,
    read_header_settings,
)
from rasengan_xl.adapters.reading.raw import RawAdapter
from rasengan_xl.sdxl.layers import ADAPTED_PARTS

_HEADER_ALPHA = "ss_network_alpha"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alphas:
    """Of every layer of a file."""

    by_layer: Mapping[str, float]
    """Those that are told; of any other layer it is the rank."""
    rank_stabilized: frozenset[str]
    """Layers whose product is scaled by alpha over the root of the rank."""
    notes: tuple[str, ...]


def find_alphas(raw: RawAdapter, keys: SortedKeys) -> Alphas:
    """Find the alphas: among the weights, or in what lies beside them.

    A trainer of kohya's kind writes one for each layer.  If a file has none at all, its rank
    stands for it, as kohya's own loader has it (networks/lora.py: `modules_alpha`), and diffusers
    (utils/peft_utils.py: `get_peft_kwargs`).

    Raises:
        AdapterError: Only some layers have one, it is none, or two places contradict each other.
    """
    scaled = {name: layer for name, layer in keys.layers.items() if "diff" not in layer.names}
    having = [name for name, layer in scaled.items() if "alpha" in layer.names]
    settings = _read_settings(raw, keys)
    _refuse_contradictions(raw, scaled, settings)
    if having:
        return _among_weights(raw, scaled, settings)
    by_layer: dict[str, float] = {}
    stabilized: set[str] = set()
    for name in scaled:
        part, _, inside = name.partition(".")
        if part in settings:
            by_layer[name] = settings[part].alpha_of(inside)
            if settings[part].rank_stabilized:
                stabilized.add(name)
    untold = sorted({name.partition(".")[0] for name in scaled if name not in by_layer})
    return Alphas(
        by_layer=by_layer,
        rank_stabilized=frozenset(stabilized),
        notes=_note_missing(raw, keys, untold),
    )


def _read_settings(raw: RawAdapter, keys: SortedKeys) -> dict[str, PeftSettings]:
    if keys.naming != "PEFT":
        return read_header_settings(raw)
    config = read_config_file(raw)
    return dict.fromkeys(ADAPTED_PARTS, config) if config else {}


def _among_weights(
    raw: RawAdapter, scaled: Mapping[str, LayerKeys], settings: Mapping[str, PeftSettings]
) -> Alphas:
    lacking = [name for name, layer in scaled.items() if "alpha" not in layer.names]
    if lacking:
        raise fault(
            raw.file,
            f"{len(lacking):,} of {len(scaled):,} layers have no alpha, first {shown(lacking[0])}; "
            "their strength is unknown: fetch the file again",
        )
    by_layer = {name: _read_alpha(raw, layer.names["alpha"]) for name, layer in scaled.items()}
    for name, alpha in by_layer.items():
        part, _, inside = name.partition(".")
        if part in settings and settings[part].alpha_of(inside) != alpha:
            raise fault(
                raw.file,
                f"{shown(name)}: alpha is {alpha:g} among the weights and "
                f"{settings[part].alpha_of(inside):g} in the header; save it anew",
            )
    return Alphas(by_layer=by_layer, rank_stabilized=frozenset(), notes=())


def _read_alpha(raw: RawAdapter, name: str) -> float:
    """Read one number; some programs write it as a whole one (`torch.tensor(rank)`)."""
    stored = raw.stored[name]
    if prod(stored.shape) != 1 or stored.dtype == "BOOL":
        raise fault(
            raw.file, f"{shown(name)} is {list(stored.shape)}, not one number; fetch it again"
        )
    alpha = float(raw.read(name).double().flatten()[0])
    if not isfinite(alpha) or alpha <= 0:
        raise fault(raw.file, f"{shown(name)} is {alpha:g}; it must be a number above 0")
    return alpha


def _refuse_contradictions(
    raw: RawAdapter, scaled: Mapping[str, LayerKeys], settings: Mapping[str, PeftSettings]
) -> None:
    """Refuse weights that are not what the settings beside them say."""
    for name, layer in scaled.items():
        part, _, inside = name.partition(".")
        if part not in settings or "down" not in layer.names:
            continue
        told, is_decomposed = settings[part], "magnitude_per_output" in layer.names
        rank = raw.shape(layer.names["down"])[:1]
        if rank != (told.rank_of(inside),):
            raise fault(
                raw.file,
                f"{shown(name)} has rank {rank[0] if rank else 0}, but its settings say "
                f"{told.rank_of(inside):g}; save it anew",
            )
        if told.decomposed is not None and told.decomposed is not is_decomposed:
            raise fault(
                raw.file,
                f"its settings say use_dora = {told.decomposed}, but {shown(name)} has "
                f"{'a' if is_decomposed else 'no'} magnitude; save it anew",
            )


def _note_missing(raw: RawAdapter, keys: SortedKeys, parts: list[str]) -> tuple[str, ...]:
    if not parts:
        return ()
    where = {"diffusers": f"no {METADATA_KEY}", "PEFT": f"no {CONFIG_FILE}"}
    lacking = where.get(keys.naming, "no alpha")
    note = f"{lacking} for {', '.join(parts)}: alpha is taken to be the rank, as other programs do"
    told = raw.header.get(_HEADER_ALPHA)
    if told is not None:
        note += f", though the header's {_HEADER_ALPHA} is {shown(told, 20)}"
    return (note,)
