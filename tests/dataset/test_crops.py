import numpy as np
import pytest
from PIL import Image

from rasengan_xl.dataset.crops import (
    Crop,
    CropPolicy,
    CropRules,
    apply_crop,
    list_variants,
    size_numbers,
)


def rules(policy: CropPolicy, *, crops: int = 1, flip: bool = False, seed: int = 0) -> CropRules:
    return CropRules(resolution=64, policy=policy, crops_per_picture=crops, flip=flip, seed=seed)


def only(crops: tuple[Crop, ...]) -> Crop:
    (crop,) = crops
    return crop


def gradient(width: int, height: int) -> Image.Image:
    """Make a picture whose red is the column and whose green is the row, in 256ths of a side."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)[None, :]
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    return Image.fromarray(pixels)


def test_a_centre_crop_keeps_the_aspect_and_tells_its_offset():
    crop = only(list_variants(300, 200, "d", rules("center")))
    assert (crop.resized_width, crop.resized_height) == (96, 64)
    assert size_numbers(crop) == (200, 300, 0, 16, 64, 64)
    tall = only(list_variants(200, 301, "d", rules("center")))
    assert size_numbers(tall) == (301, 200, 16, 0, 64, 64)


@pytest.mark.parametrize("size", [(64, 64), (65, 64), (641, 97), (31, 1000), (5, 5)])
def test_every_crop_lies_inside_the_resized_picture(size: tuple[int, int]):
    for crop in list_variants(*size, "d", rules("random", crops=8, flip=True)):
        assert min(crop.resized_width, crop.resized_height) == 64
        assert 0 <= crop.left <= crop.resized_width - 64
        assert 0 <= crop.top <= crop.resized_height - 64
        assert apply_crop(Image.new("RGB", size), crop).size == (64, 64)


def test_random_crops_are_a_function_of_seed_picture_and_variant():
    first = list_variants(64, 640, "d", rules("random", crops=4))
    assert first == list_variants(64, 640, "d", rules("random", crops=4))
    assert first == list_variants(64, 640, "d", rules("random", crops=9))[:4]
    assert first == list_variants(64, 640, "d", rules("random", crops=4, flip=True))[:4]
    assert len({crop.top for crop in first}) > 1
    assert first != list_variants(64, 640, "d", rules("random", crops=4, seed=1))
    assert first != list_variants(64, 640, "e", rules("random", crops=4))


def test_random_crops_reach_both_ends():
    tops = {
        only(list_variants(64, 67, f"picture {number}", rules("random"))).top
        for number in range(50)
    }
    assert tops == {0, 1, 2, 3}


def test_flipping_doubles_the_variants():
    crops = list_variants(100, 64, "d", rules("random", crops=3, flip=True))
    assert [crop.flipped for crop in crops] == [False] * 3 + [True] * 3
    assert len(list_variants(100, 64, "d", rules("center"))) == 1


def test_the_offset_of_a_flipped_crop_counts_in_the_mirrored_picture():
    image = gradient(256, 64)
    crops = list_variants(256, 64, "d", rules("random", flip=True))
    plain, flipped = (np.asarray(apply_crop(image, crop)) for crop in crops)
    assert plain[32, 0, 0] == pytest.approx(crops[0].left, abs=1)
    assert flipped[32, 0, 0] == pytest.approx(255 - crops[1].left, abs=1)
    assert plain[32, 63, 0] > plain[32, 0, 0]
    assert flipped[32, 63, 0] < flipped[32, 0, 0]


def test_the_crop_shows_the_part_that_its_numbers_tell():
    crop = only(list_variants(512, 1024, "d", rules("random", seed=5)))
    pixels = np.asarray(apply_crop(gradient(512, 1024), crop)).astype(float)
    assert pixels[0, 0, 1] == pytest.approx(crop.top / 128 * 255, abs=3)
    assert pixels[63, 0, 1] == pytest.approx((crop.top + 63) / 128 * 255, abs=3)


def test_a_picture_below_the_resolution_is_known_as_upscaled():
    assert only(list_variants(63, 500, "d", rules("center"))).upscaled
    assert not only(list_variants(64, 500, "d", rules("center"))).upscaled


def test_a_crop_of_another_picture_is_refused():
    crop = only(list_variants(100, 64, "d", rules("center")))
    with pytest.raises(AssertionError):
        apply_crop(Image.new("RGB", (64, 100)), crop)
