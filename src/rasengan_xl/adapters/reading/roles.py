"""What part a tensor plays in the change of its layer, as the end of its name tells."""

import re
from dataclasses import dataclass
from typing import Literal

Role = Literal[
    "down", "up", "mid", "alpha", "magnitude_per_output", "magnitude", "magnitude_unscaled",
    "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2",
    "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2",
    "diff",
]  # fmt: skip

MAGNITUDES = ("magnitude_per_output", "magnitude", "magnitude_unscaled")

_ENDINGS: dict[str, Role] = {
    # github.com/kohya-ss/sd-scripts, networks/lora.py, whose names most trainers took over
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".alpha": "alpha",
    # github.com/KohakuBlueleaf/LyCORIS 4.1.3, lycoris/modules: `weight_list` of each kind
    ".lora_mid.weight": "mid",
    ".dora_scale": "magnitude",
    ".diff": "diff",
    **{f".hada_{name}": f"hada_{name}" for name in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
    **{f".lokr_{name}": f"lokr_{name}" for name in ("w1", "w1_a", "w1_b")},
    **{f".lokr_{name}": f"lokr_{name}" for name in ("w2", "w2_a", "w2_b", "t2")},
    # PEFT 0.21, peft/tuners/lora/layer.py; the name of an adapter is left in by some programs
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_A.default.weight": "down",
    ".lora_B.default.weight": "up",
    ".lora_magnitude_vector": "magnitude_per_output",
    ".lora_magnitude_vector.weight": "magnitude_per_output",
    ".lora_magnitude_vector.default.weight": "magnitude_per_output",
    # diffusers 0.42, utils/state_dict_utils.py: what it wrote before PEFT, and still converts to
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    "_lora.down.weight": "down",
    "_lora.up.weight": "up",
    # github.com/ostris/ai-toolkit, toolkit/models/DoRA.py
    ".magnitude": "magnitude_unscaled",
}  # pyright: ignore[reportAssignmentType] - the names that are put together
_ENDING = re.compile(rf"(?:{'|'.join(map(re.escape, _ENDINGS))})\Z")

_MAKE_A_LORA = "make a LoRA of it with the program that wrote it"
_OTHER_METHODS = {
    r"\.(oft_blocks|oft_diag|rescale|boft_\w+|oft_R\.\w+)\Z": ("OFT or BOFT", _MAKE_A_LORA),
    r"\.([ab][12m]\.weight)\Z": ("GLoRA", _MAKE_A_LORA),
    r"\.(on_input|ia3\w*)\Z": ("IA3", _MAKE_A_LORA),
    r"\.([qp]_layer\.weight|lambda_layer|base_[qp]\.weight)\Z": ("T-LoRA", _MAKE_A_LORA),
    r"\.(w_norm|b_norm)\Z": ("changed normalization layers", "train without train_norm"),
    r"\.(diff_b|lora_(A|B|up|down)\.bias)\Z": ("changed biases", _MAKE_A_LORA),
    r"\.(set_weight|reshape_weight)\Z": ("replaced weights", _MAKE_A_LORA),
    r"^bundle_emb\.": ("embeddings bundled by OneTrainer", "save it without bundling them"),
    r"\.lora_embedding_[AB]\b": ("changed token embeddings", "train without them"),
}


@dataclass(frozen=True, slots=True)
class Key:
    """The name of a tensor, taken apart."""

    name: str
    layer: str
    """As it stands in the name."""
    role: Role


def take_apart(name: str) -> Key | None:
    """Find a tensor's role; None if it has none that is known here."""
    found = _ENDING.search(name)  # the leftmost, so the longest
    if found is None:
        return None
    ending = found.group()
    return Key(name, _modern(name[: found.start()], ending), _ENDINGS[ending])


def other_method(name: str) -> tuple[str, str] | None:
    """Tell to which method a tensor belongs that is known, but cannot be used; and the remedy."""
    return next((what for form, what in _OTHER_METHODS.items() if re.search(form, name)), None)


def _modern(layer: str, ending: str) -> str:
    """Undo how diffusers named layers while adapters were processors of attention."""
    layer = layer.replace(".processor.", ".")
    if not ending.startswith("_lora."):
        return layer
    layer = f"{layer}.0" if layer.endswith(".to_out") else layer
    in_text = re.fullmatch(r"(.+\.self_attn\.)to_(q|k|v|out)(?:\.0)?", layer)
    return f"{in_text[1]}{in_text[2]}_proj" if in_text else layer
