from collections import Counter

import pytest

from rasengan_xl.dataset import order as picture_order
from rasengan_xl.dataset.order import PictureOrder
from rasengan_xl.sdxl.draws import keyed_generator


def make_order(sizes, per_step, seed=0):
    return PictureOrder(sizes=sizes, per_step=per_step, seed=seed)


def rows_of(order, steps):
    return [row for step in range(1, steps + 1) for row in order.rows(step)]


@pytest.mark.parametrize("per_step", [1, 3, 4, 7, 40])
@pytest.mark.parametrize("counts", [(10,), (9, 5, 1), (4, 4, 4), (1, 1, 1, 1, 1)])
def test_every_epoch_shows_every_picture_once_whatever_the_step(counts, per_step):
    sizes = [size for size, count in enumerate(counts) for _ in range(count)]
    order = make_order(sizes, per_step)
    epochs = 6
    rows = rows_of(order, -(-len(sizes) * epochs // per_step))
    assert all(len(order.rows(step)) == per_step for step in range(1, 5))
    for epoch in range(epochs):
        seen = rows[epoch * len(sizes) : (epoch + 1) * len(sizes)]
        assert sorted(seen) == list(range(len(sizes)))


def test_epochs_and_seeds_differ_in_order():
    order = make_order([0] * 10, 5)
    first, second = order.rows(1) + order.rows(2), order.rows(3) + order.rows(4)
    other = make_order([0] * 10, 5, seed=1)
    assert len({tuple(first), tuple(second), tuple(other.rows(1) + other.rows(2))}) == 3


def test_a_step_is_the_same_whether_or_not_others_came_before_it():
    assert make_order([0, 1, 2] * 5, 4).rows(9) == rows_of(make_order([0, 1, 2] * 5, 4), 9)[-4:]


def test_steps_are_of_one_size_as_far_as_the_pictures_go_round():
    sizes = [0] * 23 + [1] * 14 + [2] * 3
    per_step, epochs = 4, 5
    order = make_order(sizes, per_step)
    steps = len(sizes) * epochs // per_step
    uniform = Counter(
        len({sizes[row] for row in order.rows(step)}) == 1 for step in range(1, steps + 1)
    )
    # Of 40 pictures 32 make up 8 whole steps of one size; at worst one is given up for an epoch
    # that begins within a step.
    assert uniform[True] >= epochs * 7


def test_the_composition_of_steps_changes_from_epoch_to_epoch():
    order = make_order([0] * 8 + [1] * 8, 4)
    first = {frozenset(order.rows(step)) for step in range(1, 5)}
    second = {frozenset(order.rows(step)) for step in range(5, 9)}
    assert first != second


def test_an_epoch_is_arranged_once_however_many_steps_it_has(monkeypatch):
    arranged = []

    def note(*key):
        arranged.append(key)
        return keyed_generator(*key)

    monkeypatch.setattr(picture_order, "keyed_generator", note)
    rows_of(make_order([0] * 40, 4), 30)
    assert arranged == [(0, "order", epoch) for epoch in range(3)]
