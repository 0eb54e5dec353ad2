import numpy as np

from rasengan_xl.evaluation.resampling import SMALLEST_SET, picture_weights


def test_weights_are_the_same_for_a_key_and_others_for_another():
    weights = picture_weights(20, 50, "prompts")
    assert np.array_equal(weights, picture_weights(20, 50, "prompts"))
    assert not np.array_equal(weights, picture_weights(20, 50, "held out"))
    # Of no process and no version of NumPy: a report made again shows the same intervals.
    assert picture_weights(8, 1, "prompts").tolist() == [[3, 0, 0, 2, 1, 2, 0, 0]]


def test_each_replicate_is_as_large_as_the_sample_and_each_picture_as_likely():
    weights = picture_weights(10, 4000, "any")
    assert (weights.sum(axis=1) == 10).all()
    assert np.allclose(weights.mean(axis=0), 1, atol=0.06)
    assert np.allclose(weights.var(axis=0), 0.9, atol=0.08)  # n (1/n) (1 - 1/n)


def test_no_replicate_of_a_set_is_of_one_picture_alone():
    weights = picture_weights(SMALLEST_SET, 1_000_000, "many")
    assert weights.max() < SMALLEST_SET
