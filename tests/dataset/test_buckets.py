import pytest

from rasengan_xl.dataset.buckets import Bucket, choose_bucket, list_buckets

# Sides (height, width) of arXiv:2307.01952, appendix I, up to the square.
PAPER_TALL_OR_WIDE = [
    (512, 2048), (512, 1984), (512, 1920), (512, 1856), (576, 1792), (576, 1728), (576, 1664),
    (640, 1600), (640, 1536), (704, 1472), (704, 1408), (704, 1344), (768, 1344), (768, 1280),
    (832, 1216), (832, 1152), (896, 1152), (896, 1088), (960, 1088), (960, 1024),
]  # fmt: skip
MISSING_IN_PAPER = {(1344, 704)}


def test_at_1024_the_buckets_are_those_sdxl_was_trained_at():
    mirrored = {(width, height) for height, width in PAPER_TALL_OR_WIDE}
    paper = {*PAPER_TALL_OR_WIDE, (1024, 1024), *mirrored} - MISSING_IN_PAPER
    assert len(paper) == 40
    buckets = list_buckets(1024, 64)
    assert set(buckets) == paper | MISSING_IN_PAPER
    assert len(buckets) == 41


@pytest.mark.parametrize(("resolution", "multiple"), [(512, 64), (768, 64), (32, 8), (1024, 8)])
def test_the_list_is_symmetric_ordered_and_holds_the_square(resolution: int, multiple: int):
    buckets = list_buckets(resolution, multiple)
    assert Bucket(resolution, resolution) in buckets
    assert {(width, height) for height, width in buckets} == set(buckets)
    assert list(buckets) == sorted(set(buckets))


def test_one_cell_gives_one_bucket():
    assert list_buckets(64, 64) == (Bucket(64, 64),)
    assert list_buckets(96, 96) == (Bucket(96, 96),)


def test_a_picture_goes_to_the_nearest_shape():
    buckets = list_buckets(1024, 64)
    assert choose_bucket(4000, 4000, buckets) == Bucket(1024, 1024)
    assert choose_bucket(1920, 1080, buckets) == Bucket(768, 1344)
    assert choose_bucket(1080, 1920, buckets) == Bucket(1344, 768)
    assert choose_bucket(20_000, 1, buckets) == Bucket(512, 2048)
    assert all(choose_bucket(3 * w, 3 * h, buckets) == (h, w) for h, w in buckets)


def test_a_tie_goes_to_the_larger_and_then_to_the_wider():
    assert choose_bucket(2, 2, (Bucket(2, 4), Bucket(8, 4))) == Bucket(8, 4)
    assert choose_bucket(2, 2, (Bucket(4, 2), Bucket(2, 4))) == Bucket(2, 4)
    assert choose_bucket(2, 2, (Bucket(2, 4), Bucket(4, 2))) == Bucket(2, 4)
