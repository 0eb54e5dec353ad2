import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from rasengan_xl.errors import ModelError
from rasengan_xl.evaluation.encoder_folder import EncoderFolder
from rasengan_xl.evaluation.preprocessing import read_preprocessing

from .tiny_encoders import NEW_FORM, NORMALISED, OLD_FORM, write_preprocessor

SQUASHED = {"size": {"height": 20, "width": 24}, "do_center_crop": False, "rescale_factor": 1 / 127}
PADDED = {"size": {"shortest_edge": 20}, "crop_size": 28}


@pytest.fixture
def read(tmp_path):
    def read(form):
        write_preprocessor(tmp_path, form)
        return read_preprocessing(EncoderFolder(path=tmp_path))

    return read


def draw_noise_picture(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.mark.parametrize("size", [(61, 40), (40, 61), (30, 30), (300, 33)])
@pytest.mark.parametrize("form", [OLD_FORM, NEW_FORM, SQUASHED, PADDED])
def test_pixels_are_those_of_transformers(read, form, size):
    picture = draw_noise_picture(*size)
    theirs = CLIPImageProcessorPil(**NORMALISED, **form)(picture, return_tensors="pt")
    ours = read(form).to_pixels(picture)
    assert torch.allclose(ours, theirs.pixel_values[0], atol=1e-5)


def test_what_is_switched_off_is_not_done(read):
    pixels = read({**OLD_FORM, "do_rescale": False, "do_normalize": False})
    picture = draw_noise_picture(28, 28)
    assert np.array_equal(pixels.to_pixels(picture).permute(1, 2, 0), np.asarray(picture))


def test_a_transparent_or_grey_picture_is_taken_in_colour(read):
    grey = draw_noise_picture(40, 40).convert("L")
    assert read(OLD_FORM).to_pixels(grey).shape == (3, 28, 28)
    assert read(OLD_FORM).to_pixels(grey.convert("RGBA")).shape == (3, 28, 28)


@pytest.mark.parametrize(
    "form",
    [
        {"size": {"longest_edge": 28}, "crop_size": 28},
        {"size": 28, "image_mean": [0.5]},
        {"do_resize": False},
        {"size": 28, "resample": 99},
        {},
    ],
)
def test_a_file_that_is_not_understood_is_refused_in_one_line(read, form):
    with pytest.raises(ModelError, match=r"^[^\n]*preprocessor_config.json is not understood.*$"):
        read(form)


def test_a_missing_file_is_refused_in_one_line(tmp_path):
    with pytest.raises(ModelError, match=r"^[^\n]*preprocessor_config.json cannot be read.*$"):
        read_preprocessing(EncoderFolder(path=tmp_path))
