import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rasengan_xl.dataset.crops import (
    Crop,
    CropPolicy,
    CropRules,
    Shapes,
    apply_crop,
    list_variants,
    size_numbers,
)

# The same examples in every run, and nothing kept between runs.
reproducibly = settings(derandomize=True, deadline=None, database=None, max_examples=150)


def rules(
    policy: CropPolicy,
    *,
    shapes: Shapes = "square",
    resolution: int = 64,
    crops: int = 1,
    flip: bool = False,
    seed: int = 0,
) -> CropRules:
    return CropRules(
        resolution=resolution,
        shapes=shapes,
        bucket_multiple=8,
        policy=policy,
        crops_per_picture=crops,
        flip=flip,
        seed=seed,
    )


def only(crops: tuple[Crop, ...]) -> Crop:
    (crop,) = crops
    return crop


def cell_numbers(width: int, height: int) -> Image.Image:
    """Make a picture in which every pixel is another colour."""
    numbers = np.arange(width * height).reshape(height, width)
    channels = [numbers % 251, numbers // 251 % 256, (7 * numbers) % 253]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


sides = st.one_of(st.integers(1, 80), st.sampled_from([1, 32, 64, 128, 300, 700]))
any_rules = st.builds(
    CropRules,
    resolution=st.sampled_from([32, 64, 96]),
    shapes=st.sampled_from(["buckets", "square"]),
    bucket_multiple=st.sampled_from([8, 16, 32]),
    policy=st.sampled_from(["center", "random", "top"]),
    crops_per_picture=st.integers(1, 3),
    flip=st.booleans(),
    seed=st.integers(0, 5),
)


@reproducibly
@given(width=sides, height=sides, cut=any_rules)
def test_every_box_lies_in_the_picture_and_is_a_bucket(width: int, height: int, cut: CropRules):
    crops = list_variants(width, height, "d", cut)
    assert len(crops) == cut.crops_per_picture * (2 if cut.flip else 1)
    assert len({crop.bucket for crop in crops}) == 1
    for crop in crops:
        assert crop.bucket in cut.buckets
        assert (crop.original_width, crop.original_height) == (width, height)
        assert 0 <= crop.left <= crop.left + crop.target_width <= crop.resized_width
        assert 0 <= crop.top <= crop.top + crop.target_height <= crop.resized_height


@reproducibly
@given(width=sides, height=sides, cut=any_rules)
def test_a_picture_covers_its_bucket_barely_and_keeps_its_shape(
    width: int, height: int, cut: CropRules
):
    crop = list_variants(width, height, "d", cut)[0]
    resized, target = (crop.resized_width, crop.resized_height), crop.bucket[::-1]
    assert any(side == wanted for side, wanted in zip(resized, target, strict=True))
    assert all(side >= wanted for side, wanted in zip(resized, target, strict=True))
    scale = max(target[0] / width, target[1] / height)
    assert abs(resized[0] - width * scale) <= 0.5 + 1e-6
    assert abs(resized[1] - height * scale) <= 0.5 + 1e-6
    assert crop.upscaling == scale
    assert crop.upscaled == (resized[0] > width or resized[1] > height)


@settings(reproducibly, max_examples=60)
@given(width=st.integers(1, 90), height=st.integers(1, 90), cut=any_rules)
def test_the_offsets_reproduce_each_crop_from_the_original(width: int, height: int, cut: CropRules):
    picture = cell_numbers(width, height)
    for crop in list_variants(width, height, "d", cut):
        whole = np.asarray(
            picture.resize((crop.resized_width, crop.resized_height), Image.Resampling.LANCZOS)
        )
        seen = whole[:, ::-1] if crop.flipped else whole
        original_height, original_width, top, left, tall, wide = size_numbers(crop)
        assert (original_height, original_width) == (height, width)
        expected = seen[top : top + tall, left : left + wide]
        np.testing.assert_array_equal(np.asarray(apply_crop(picture, crop)), expected)


@settings(reproducibly, max_examples=60)
@given(width=st.integers(1, 90), height=st.integers(1, 90), cut=any_rules)
def test_a_flipped_companion_is_the_mirror_image(width: int, height: int, cut: CropRules):
    crops = list_variants(width, height, "d", cut)
    plain, mirrored = crops[: cut.crops_per_picture], crops[cut.crops_per_picture :]
    assert len(mirrored) == (len(plain) if cut.flip else 0)
    picture = cell_numbers(width, height)
    for crop, companion in zip(plain, mirrored, strict=False):
        expected = np.asarray(apply_crop(picture, crop))[:, ::-1]
        np.testing.assert_array_equal(np.asarray(apply_crop(picture, companion)), expected)


def test_a_centre_crop_keeps_the_aspect_and_tells_its_offset():
    crop = only(list_variants(300, 200, "d", rules("center")))
    assert (crop.resized_width, crop.resized_height) == (96, 64)
    assert size_numbers(crop) == (200, 300, 0, 16, 64, 64)
    tall = only(list_variants(200, 301, "d", rules("center")))
    assert size_numbers(tall) == (301, 200, 16, 0, 64, 64)


def test_a_bucket_cuts_less_than_the_square():
    crop = only(list_variants(300, 200, "d", rules("center", shapes="buckets")))
    assert (crop.resized_width, crop.resized_height) == (80, 53)
    assert size_numbers(crop) == (200, 300, 2, 0, 48, 80)


def test_a_top_crop_loses_the_bottom_or_both_flanks_alike():
    tall = only(list_variants(200, 300, "d", rules("top")))
    assert size_numbers(tall) == (300, 200, 0, 0, 64, 64)
    wide = only(list_variants(300, 200, "d", rules("top")))
    assert size_numbers(wide) == (200, 300, 0, 16, 64, 64)


def test_random_crops_are_a_function_of_seed_picture_and_number():
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


def test_a_picture_below_its_training_size_is_known_as_upscaled():
    small = only(list_variants(32, 500, "d", rules("center")))
    assert small.upscaled
    assert small.upscaling == pytest.approx(2.0)
    assert not only(list_variants(64, 500, "d", rules("center"))).upscaled


def test_a_crop_of_another_picture_is_refused():
    crop = only(list_variants(100, 64, "d", rules("center")))
    with pytest.raises(AssertionError):
        apply_crop(Image.new("RGB", (64, 100)), crop)
