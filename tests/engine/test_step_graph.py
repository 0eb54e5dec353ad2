import pytest
import torch

from rasengan_xl.engine import step_graph
from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.engine.step_graph import Fallback, Replayed, why_no_graph

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Work:
    """A function that adds to a sum, and what has been done with it."""

    def __init__(self, record=None):
        self.sum = torch.zeros(())
        self.addresses: list[int] = []
        self.told: list[str] = []
        self.recorded = 0
        self.full_at = -1
        self.given_up = 0
        fallback = Fallback(keep=self.keep, tell=self.told.append, give_up=self.give_up)
        self.recorders = 0
        self.replayed = Replayed(self.add, CPU, lambda: self.new_recorder(record), fallback)

    def add(self, tensors):
        self.addresses.append(tensors["given"].data_ptr())
        self.sum += tensors["given"].sum()
        if len(tensors["given"]) == self.full_at:
            self.full_at = -1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried\nmuch")
        return tensors["given"] * 2

    def new_recorder(self, record):
        self.recorders += 1
        return record or self.record

    def record(self, function):
        self.recorded += 1
        return function

    def give_up(self):
        self.given_up += 1

    def keep(self):
        kept = self.sum.clone()
        return lambda: self.sum.copy_(kept)

    def __call__(self, size: int, value: float = 1.0):
        return self.replayed({"given": torch.full((size,), value)})


def test_a_shape_is_computed_then_recorded_then_replayed():
    work = Work()
    for value in (1.0, 2.0, 3.0):
        assert work(2, value).tolist() == [2 * value] * 2
    assert work.recorded == 1
    assert work.sum == 12
    assert work.addresses[1] == work.addresses[2]
    work(3)
    assert work.recorded == 1
    work(3)
    assert work.recorded == 2


def test_what_was_returned_stays_as_it_is():
    buffer = torch.zeros(2)
    work = Work(lambda function: lambda: buffer.copy_(function()))
    work(2)
    first, second = work(2, 5.0), work(2, 7.0)
    assert first.tolist() == [10.0, 10.0]
    assert second.tolist() == [14.0, 14.0]


def test_inputs_of_one_shape_are_held_once_however_many_recordings_read_them():
    addresses: list[int] = []

    def add(tensors):
        addresses.append(tensors["shared"].data_ptr())
        return tensors["own"] + tensors["shared"].sum()

    replayed = Replayed(add, CPU, lambda: lambda function: function)
    for size, value in [(1, 0.0), (1, 1.0), (2, 0.0), (2, 2.0), (1, 3.0), (2, 4.0)]:
        found = replayed({"own": torch.zeros(size), "shared": torch.full((3,), value)})
        assert found.tolist() == [3 * value] * size
    assert len({addresses[call] for call in (1, 3, 4, 5)}) == 1


def test_another_type_is_another_shape():
    work = Work()
    for dtype in (torch.float32, torch.float64):
        for _ in range(2):
            assert work.replayed({"given": torch.ones(2, dtype=dtype)}).dtype is dtype
    assert work.recorded == 2


def test_memory_that_runs_out_while_recording_ends_recording():
    def fail(function):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried\nmuch")

    work = Work(fail)
    for _ in range(3):
        assert work(2).tolist() == [2.0, 2.0]
    assert work.sum == 6
    assert work.told == [
        "CUDA graphs: given up, kernels are launched one by one from now on: "
        "CUDA out of memory. Tried"
    ]
    assert work.given_up == 1


def test_memory_that_graphs_hold_is_given_to_a_shape_that_needs_it():
    work = Work()
    work(2), work(2)
    work.full_at = 3
    assert work(3).tolist() == [2.0, 2.0, 2.0]
    assert work.sum == 2 + 2 + 3  # what was added before memory ran out is brought back
    assert work.told == [
        "CUDA graphs: recorded anew, as another size of pictures needed their memory once"
    ]
    assert work.recorders == 2  # the memory of the first is free
    for _ in range(2):
        work(2), work(3)
    assert work.recorded == 1 + 2


def test_memory_that_runs_out_without_graphs_is_not_hidden():
    work = Work()
    work.full_at = 3
    with pytest.raises(torch.OutOfMemoryError):
        work(3)


def test_shapes_beyond_the_most_are_computed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(step_graph, "MOST_SHAPES", 2)
    work = Work()
    for _ in range(3):
        for size in (1, 2, 3, 4):
            assert work(size).tolist() == [2.0] * size
    assert work.recorded == 2
    assert work.sum == 3 * (1 + 2 + 3 + 4)
    assert work.told == [
        "CUDA graphs: more than 2 sizes of pictures; the others are launched kernel by kernel"
    ]


@pytest.mark.parametrize(
    ("device", "options", "dropout", "told"),
    [
        (CPU, EngineOptions(), 0.0, "a cpu launches no kernels"),
        (CUDA, EngineOptions(implementation="peft"), 0.0, "PEFT's layers"),
        (CUDA, EngineOptions(memory="recompute-all"), 0.1, "adapter.dropout"),
    ],
)
def test_what_stands_against_a_graph_is_named(device, options, dropout, told):
    assert told in why_no_graph(device, options, dropout)
    assert why_no_graph(CUDA, EngineOptions(), 0.1) is None
    assert why_no_graph(CUDA, EngineOptions(memory="recompute-all"), 0.0) is None
