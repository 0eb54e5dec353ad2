from io import BytesIO
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from rasengan_xl.mini.world.portraits import draw_portrait
from rasengan_xl.mini.world.scenes import draw_scene
from rasengan_xl.preparation.duplicates import ALIKE_BITS, group_alike, group_copies
from rasengan_xl.sources.looks import take_look


def differing_bits(first: bytes, second: bytes) -> int:
    return (int.from_bytes(first, "big") ^ int.from_bytes(second, "big")).bit_count()


def flip(look: bytes, bits: list[int]) -> bytes:
    number = int.from_bytes(look, "big")
    for bit in bits:
        number ^= 1 << int(bit)
    return number.to_bytes(32, "big")


def group_by_comparing_all(looks: list[bytes], most_bits: int) -> list[tuple[int, ...]]:
    labels = list(range(len(looks)))
    for first, second in combinations(range(len(looks)), 2):
        if differing_bits(looks[first], looks[second]) <= most_bits:
            old, new = labels[second], labels[first]
            labels = [new if label == old else label for label in labels]
    groups = [tuple(row for row, label in enumerate(labels) if label == each) for each in labels]
    return sorted({group for group in groups if len(group) > 1})


def test_copies_are_grouped_in_order():
    assert group_copies(["a", "b", "a", "c", "b", "a"]) == [(0, 2, 5), (1, 4)]
    assert group_copies([]) == []


@pytest.mark.parametrize("most_bits", [0, 5, 12, 15])
def test_the_search_finds_what_comparing_all_with_all_finds(most_bits: int):
    chance = np.random.default_rng(most_bits)
    looks = [chance.bytes(32) for _ in range(60)]
    for _ in range(240):  # chains of neighbours around the limit
        count = int(chance.integers(0, 20))
        bits = chance.choice(256, count, replace=False)
        looks.append(flip(looks[int(chance.integers(len(looks)))], list(bits)))
    found = group_alike(looks, most_bits)
    assert found == group_by_comparing_all(looks, most_bits)
    assert found


def test_exactly_the_limit_is_alike_and_one_bit_more_is_not():
    look = np.random.default_rng(0).bytes(32)
    spread = list(range(0, 16 * ALIKE_BITS, 16))
    assert group_alike([look, flip(look, spread)]) == [(0, 1)]
    assert group_alike([look, flip(look, [*spread, 255])]) == []


def test_even_pictures_are_alike_to_none():
    greys = [take_look(Image.new("RGB", (90, 60), (tone, tone, tone))) for tone in (0, 99, 255)]
    noisy = np.random.default_rng(0).normal(128, 3, (64, 64, 3)).clip(0, 255).astype(np.uint8)
    ramp = Image.fromarray(np.tile(np.arange(0, 256, 2, dtype=np.uint8), (64, 1)))
    even = [*greys, take_look(Image.fromarray(noisy)), take_look(ramp), take_look(ramp)]
    assert group_alike(even) == []
    assert group_alike([b"", b"", bytes(32), bytes(32)]) == []


def jpeg(picture: Image.Image) -> Image.Image:
    file = BytesIO()
    picture.save(file, "JPEG", quality=40)
    return Image.open(file).convert("RGB")


def test_another_format_size_or_tone_looks_alike_and_another_picture_does_not():
    portraits = [draw_portrait(draw_scene(i), "shinobi", 256) for i in range(12)]
    changed = [
        change(picture)
        for picture in portraits
        for change in (
            jpeg,
            lambda p: p.resize((128, 128)),
            lambda p: p.point(lambda tone: min(255, int(tone * 1.1 + 5))),
        )
    ]
    looks = [take_look(picture) for picture in (*portraits, *changed)]
    expected = [(i, *(12 + 3 * i + change for change in range(3))) for i in range(12)]
    assert group_alike(looks) == expected


def test_a_large_dataset_is_searched_without_comparing_all():
    chance = np.random.default_rng(0)
    looks = [chance.bytes(32) for _ in range(20_000)]
    looks += [flip(looks[i], [3, 77, 200]) for i in range(5)]
    assert group_alike(looks) == [(i, 20_000 + i) for i in range(5)]
