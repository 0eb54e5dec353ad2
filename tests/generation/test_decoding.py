import copy

import numpy as np
import pytest
import torch

from rasengan_xl.errors import DivergedError
from rasengan_xl.generation.decoding import RETRIED, bears_half_precision, decode

LATENTS = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))


def pixels(decoded):
    return np.stack([np.asarray(picture) for picture in decoded.pictures]).astype(int)


@pytest.fixture
def overflowing(pipeline, monkeypatch):
    """The pipeline with a VAE that gives NaN in 16 bits, as SDXL's does."""
    decode = pipeline.vae.decode

    def overflow(latents, **options):
        (decoded,) = decode(latents, **options)
        return (decoded * torch.nan if torch.is_autocast_enabled("cpu") else decoded,)

    monkeypatch.setattr(pipeline.vae, "decode", overflow)
    return pipeline


def test_float16_draws_nearly_the_same_where_the_vae_bears_it(pipeline):
    half, full = decode(pipeline, LATENTS, in_half=True), decode(pipeline, LATENTS)
    assert half.note == full.note == ""
    assert np.abs(pixels(half) - pixels(full)).max() <= 3


def test_a_decode_that_overflows_in_float16_is_repeated_in_float32_and_said(overflowing):
    again = decode(overflowing, LATENTS, in_half=True)
    assert again.note == RETRIED
    assert np.array_equal(pixels(again), pixels(decode(overflowing, LATENTS)))


def test_what_is_not_finite_in_float32_either_is_an_error(pipeline):
    with pytest.raises(DivergedError, match="not finite"):
        decode(pipeline, LATENTS * torch.nan, in_half=True)


def test_only_a_vae_that_says_so_is_decoded_in_float16(pipeline):
    assert not bears_half_precision(pipeline.vae)
    fixed = copy.copy(pipeline.vae)
    fixed.register_to_config(force_upcast=False)
    assert bears_half_precision(fixed)
    fixed.register_to_config(force_upcast=True)
