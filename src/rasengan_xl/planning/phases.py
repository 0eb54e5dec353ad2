"""What encoding takes: the text encoders, then the VAE, each alone on the GPU."""

from typing import Any

import torch
from torch import nn

from rasengan_xl.dataset.encoding import CAPTIONS_AT_ONCE, PIXELS_AT_ONCE
from rasengan_xl.planning.caching_allocator import replay
from rasengan_xl.planning.cuda_on_meta import CudaOnMeta
from rasengan_xl.planning.ledger import find_peak
from rasengan_xl.planning.model_shape import META, ModelShape
from rasengan_xl.planning.recorder import Recorder
from rasengan_xl.planning.simulate import Needs, hold_model
from rasengan_xl.sdxl.full_size import TOKENS


def simulate_encoding(shape: ModelShape, resolution: int, dtype: torch.dtype) -> Needs:
    """Tell what the more demanding half of encoding takes: captions, or pictures.

    Args:
        shape: Of the base model.
        resolution: Side of the pictures, in pixels.
        dtype: Compute precision; the VAE computes in float32 all the same.
    """
    halves = (simulate_captions(shape, dtype), simulate_pictures(shape, resolution))
    return max(halves, key=lambda needs: needs.peak.total)


@torch.no_grad()
def simulate_captions(shape: ModelShape, dtype: torch.dtype) -> Needs:
    """Tell what encoding captions takes, both text encoders being there."""
    recorder = Recorder()
    encoders = shape.build_text_encoders(dtype)
    named: dict[int, str] = {}
    for encoder in encoders:
        named |= hold_model(recorder, encoder)
    ids = torch.zeros(CAPTIONS_AT_ONCE, TOKENS, dtype=torch.long, device=META)
    with recorder:
        outputs = [_run_text_encoder(encoder, ids) for encoder in encoders]
    del outputs
    return _needs(recorder, named)


def _run_text_encoder(encoder: nn.Module, ids: torch.Tensor) -> Any:
    with CudaOnMeta():
        return encoder(ids, output_hidden_states=True)


@torch.no_grad()
def simulate_pictures(shape: ModelShape, resolution: int) -> Needs:
    """Tell what encoding pictures takes, as many at once as a run encodes."""
    recorder = Recorder()
    vae: Any = shape.build_vae()
    named = hold_model(recorder, vae)
    size = max(1, PIXELS_AT_ONCE["cuda"] // resolution**2)
    pictures = torch.empty(size, 3, resolution, resolution, device=META)
    recorder.hold([pictures], "pictures")
    with recorder, CudaOnMeta():
        vae.encode(pictures)
    return _needs(recorder, named)


def _needs(recorder: Recorder, named: dict[int, str]) -> Needs:
    peak = find_peak(recorder.ledger, named, None)
    reserved = replay(recorder.ledger).most_reserved
    return Needs(peak=peak, reserved=reserved, work=recorder.work)
