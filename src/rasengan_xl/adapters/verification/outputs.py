"""Whether an adapter shows in what its base computes, and leaves no trace when taken off."""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import (
    StableDiffusionXLPipeline,
)
from torch import Tensor, nn

from rasengan_xl.adapters.applying import applied
from rasengan_xl.adapters.carrying import as_written, is_for_rounded
from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.adapters.verification.effects import check_effect
from rasengan_xl.adapters.verification.outcomes import not_checked, outcome
from rasengan_xl.adapters.verification.probe import (
    ROUNDING,
    compare_outputs,
    text_outputs,
    unet_output,
)
from rasengan_xl.config.settings import ComputeSettings
from rasengan_xl.runs.verification import Check
from rasengan_xl.sdxl.components import load_text_encoders, load_unet
from rasengan_xl.sdxl.compute import Compute, choose_compute
from rasengan_xl.sdxl.model_folder import TEXT_ENCODERS, ModelFolder

TOLERANCE = 0.01
"""Of what the adapter changes: how far two programs that apply it may be apart.  Half the
strength, or DoRA's magnitudes left out, would be apart by tens of percent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What a model computes of the same inputs."""

    base: Tensor
    adapted: Tensor
    restored: Tensor
    """After the adapter was taken off."""


def check_text_outputs(model: ModelFolder, contents: AdapterContents) -> list[Check]:
    """Check the text encoders with and without the adapter; nothing if it leaves them alone."""
    if not contents.changes_text:
        return []
    encoders = load_text_encoders(model, Compute(find_device(), torch.float32))
    parts: dict[str, nn.Module] = dict(zip(TEXT_ENCODERS, encoders, strict=True))

    def read() -> Tensor:
        return torch.cat([states.flatten() for states in text_outputs(encoders)])

    outputs = _compute(parts, _only(contents, TEXT_ENCODERS), read)
    return _check_both("text output", outputs)


def check_unet_outputs(model: ModelFolder, contents: AdapterContents) -> list[Check]:
    """Check the UNet with the adapter, without it, and with it as plain diffusers loads it."""
    ours = _only(contents, ("unet",))
    if not ours.changes:
        return [not_checked("output changed", "the UNet is left as it is")]
    device = find_device()
    # In 16 bits on its way to a GPU, so that it takes no more of the main memory than needed.
    loaded = torch.float32 if device.type == "cpu" else torch.float16
    unet = load_unet(model, Compute(device, loaded), "full").float()
    outputs = _compute({"unet": unet}, ours, lambda: unet_output(unet))
    checks = _check_both("output", outputs)
    told = "computes the same"
    if is_for_rounded(ours):  # of which diffusers knows nothing
        outputs = _compute({"unet": unet}, as_written(ours), lambda: unet_output(unet))
        told = (
            "computes by its magnitudes as they are, which are for the rounded base that it was "
            "trained on; for a whole one, export it --to diffusers"
        )
    return [*checks, _check_diffusers(unet, contents, outputs, told)]


def _compute(
    parts: Mapping[str, nn.Module], contents: AdapterContents, compute: Callable[[], Tensor]
) -> Outputs:
    base = compute()
    with applied(parts, [contents], [1.0], fuse=False):
        adapted = compute()
    return Outputs(base=base, adapted=adapted, restored=compute())


def _check_both(what: str, outputs: Outputs) -> list[Check]:
    left = compare_outputs(outputs.base, outputs.restored)
    is_same = torch.equal(outputs.base, outputs.restored)
    return [
        check_effect(f"{what} changed", outputs.base, outputs.adapted),
        outcome(
            f"{what} restored",
            "" if is_same else f"the base is off by {left.share:.2g} afterwards",
            "taken off, the base computes the same, to the bit",
            largest=left.largest,
        ),
    ]


def _check_diffusers(
    unet: UNet2DConditionModel, contents: AdapterContents, ours: Outputs, told: str
) -> Check:
    """Check that plain diffusers makes the same of the file.  The UNet is of no more use then."""
    if contents.form != "diffusers":
        return not_checked(
            "plain diffusers", f"the file is in {contents.form}'s form; export it --to diffusers"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # whatever went wrong shows in what is computed
            _load_as_diffusers_does(unet, contents.source)
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        return outcome("plain diffusers", f"cannot load it ({reason})", "")
    effect = compare_outputs(ours.base, ours.adapted)
    gap = compare_outputs(ours.adapted, unet_output(unet))
    off = gap.size / effect.size if effect.size else math.inf
    # What is not finite compares as false, and is no match.
    matches = gap.share <= ROUNDING or off <= TOLERANCE
    apart = f"to {off:.1g} of what the adapter changes" if gap.size else "to the bit"
    return outcome(
        "plain diffusers",
        "" if matches else f"computes something else: off by {off:.2%} of what the adapter changes",
        f"loads it and {told} ({apart})",
        share_of_change=off,
        largest=gap.largest,
    )


def _load_as_diffusers_does(unet: UNet2DConditionModel, file: Path) -> None:
    """Do for the UNet what `load_lora_weights` of a pipeline does."""
    kind: Any = StableDiffusionXLPipeline
    weights, alphas, metadata = kind.lora_state_dict(
        str(file.parent),
        weight_name=file.name,
        unet_config=unet.config,
        return_lora_metadata=True,
        local_files_only=True,
    )
    kind.load_lora_into_unet(weights, network_alphas=alphas, unet=unet, metadata=metadata)
    unet.eval()


def _only(contents: AdapterContents, parts: tuple[str, ...]) -> AdapterContents:
    kept = {n: c for n, c in contents.changes.items() if n.partition(".")[0] in parts}
    return replace(contents, changes=kept)


def find_device() -> torch.device:
    """Return where there is most to compute with."""
    return choose_compute(ComputeSettings()).device
