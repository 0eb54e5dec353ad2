"""What an adapter consists of, in words: kinds of change, ranks, and what its header tells."""

from collections import defaultdict
from collections.abc import Mapping

from rasengan_xl.adapters.changes import Change, Decomposed, Dense, Hadamard, LowRank
from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.adapters.reading.faults import shown
from rasengan_xl.runs.verification import LayerKind

LONGEST_FACT = 120
_FACTS = (
    "modelspec.title",
    "modelspec.architecture",
    "modelspec.author",
    "modelspec.license",
    "modelspec.date",
    "modelspec.trigger_phrase",
    "modelspec.resolution",
    "modelspec.prediction_type",
    "ss_output_name",
    "ss_network_module",
    "ss_network_dim",
    "ss_network_alpha",
    "ss_network_args",
    "ss_base_model_version",
    "ss_sd_model_name",
    "ss_new_sd_model_hash",
    "ss_steps",
    "ss_epoch",
    "ss_learning_rate",
    "ss_unet_lr",
    "ss_text_encoder_lr",
    "ss_resolution",
    "ss_seed",
    "ss_zero_terminal_snr",
)
"""Entries that trainers write (github.com/Stability-AI/ModelSpec, github.com/kohya-ss/sd-scripts)
and that tell a user something; they write dozens more."""


def kind_of(change: Change) -> str:
    """Name a change as its users do."""
    match change:
        case Decomposed(direction=LowRank()):
            return "DoRA" if change.axis == "output" else "DoRA by input"
        case Decomposed():
            return f"DoRA of {kind_of(change.direction)}"
        case LowRank():
            return "LoRA" if change.mid is None and change.down[0, 0].numel() == 1 else "LoCon"
        case Hadamard():
            return "LoHa"
        case Dense():
            return "full difference"
        case _:
            return "LoKr"


def alpha_of(change: Change) -> float | None:
    """Return the alpha of a change that has one."""
    inner = change.direction if isinstance(change, Decomposed) else change
    return None if isinstance(inner, Dense) else inner.alpha


def list_kinds(contents: AdapterContents) -> list[LayerKind]:
    """Group the layers of an adapter by part and kind of change."""
    groups: defaultdict[tuple[str, str], list[Change]] = defaultdict(list)
    for layer, change in contents.changes.items():
        groups[layer.partition(".")[0], kind_of(change)].append(change)
    return [
        LayerKind(
            part=part,
            kind=kind,
            layers=len(changes),
            ranks=sorted({rank for change in changes if (rank := change.rank) is not None}),
            alphas=sorted({a for change in changes if (a := alpha_of(change)) is not None}),
        )
        for (part, kind), changes in sorted(groups.items())
    ]


def pick_facts(header: Mapping[str, str]) -> dict[str, str]:
    """Choose what is worth showing of a file's header, and make it safe to show."""
    facts = {name: shown(header[name], LONGEST_FACT) for name in _FACTS if name in header}
    return {name: fact for name, fact in facts.items() if fact not in {"", "None"}}
