import numpy as np
import torch
from PIL import Image

from rasengan_xl.evaluation.encoders import Encoder, TextEncoder
from rasengan_xl.evaluation.features import encode_pictures, encode_texts

PICTURES = [Image.new("RGB", (4, 6), (i, 2 * i, 3 * i)) for i in range(5)]


def build_counting_encoder(identity: str) -> tuple[Encoder, list[int]]:
    """An encoder of first pixels and of lengths of texts, and the sizes of its batches."""
    batches: list[int] = []

    def features(pictures):
        batches.append(len(pictures))
        return torch.tensor([picture.getpixel((0, 0)) for picture in pictures]).float() / 7

    def text_features(texts):
        batches.append(len(texts))
        return torch.tensor([[len(text), 1.0] for text in texts])

    texts = TextEncoder(features=text_features, count_cut=len)
    return Encoder(identity=identity, features=features, texts=texts), batches


def test_what_was_encoded_before_is_not_encoded_again():
    encoder, batches = build_counting_encoder("first")
    features = encode_pictures(encoder, iter(PICTURES), batch_size=2)
    assert batches == [2, 2, 1]
    again = encode_pictures(encoder, PICTURES[::-1], batch_size=2)
    assert batches == [2, 2, 1]
    assert features.dtype == np.float32
    assert np.array_equal(again, features[::-1])
    assert np.array_equal(features[1], np.array([1, 2, 3], dtype=np.float32) / 7)


def test_only_what_is_new_is_encoded_and_once():
    encoder, batches = build_counting_encoder("second")
    encode_pictures(encoder, PICTURES[:2])
    other = Image.new("RGB", (6, 4), (1, 2, 3))  # as many bytes of the same colour, another shape
    features = encode_pictures(encoder, [*PICTURES[:3], PICTURES[2], other])
    assert batches == [2, 2]
    assert np.array_equal(features[2], features[3])


def test_another_encoder_computes_its_own():
    for identity in ("third", "fourth"):
        encoder, batches = build_counting_encoder(identity)
        encode_pictures(encoder, PICTURES)
        assert batches == [5]


def test_texts_are_kept_apart_from_pictures():
    encoder, batches = build_counting_encoder("fifth")
    assert encode_texts(encoder, ["a", "bcd", "a"]).tolist() == [[1, 1], [3, 1], [1, 1]]
    assert encode_texts(encoder, ["bcd"]).tolist() == [[3, 1]]
    assert batches == [2]
    assert encode_pictures(encoder, []).shape == (0, 0)
