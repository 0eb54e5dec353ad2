"""Kernels are used where they work, and PyTorch's own elsewhere."""

import logging

import pytest
import torch

from rasengan_xl.engine.kernels import availability


@pytest.fixture(autouse=True)
def forget():
    yield
    availability.why_no_kernels.cache_clear()


def test_tensors_in_main_memory_and_without_values_have_none():
    assert not availability.has_kernels(torch.ones(2))
    assert not availability.has_kernels(torch.ones(2, device="meta"))


class PTXASError(Exception):
    """What Triton raises where a GPU is too old for it: of a class of its own."""


@pytest.mark.parametrize("kind", [RuntimeError, PTXASError])
def test_a_machine_that_cannot_compile_is_told_once_that_it_computes_slower(
    monkeypatch, caplog, kind
):
    def load(_name):
        raise kind("Failed to compile")

    monkeypatch.setattr(availability, "find_spec", lambda _name: True)
    monkeypatch.setattr(availability, "load_kernels", load)
    with caplog.at_level(logging.WARNING):
        assert [availability.kernels_work(torch.device("cpu")) for _ in range(2)] == [False, False]
    told = availability.why_no_kernels(torch.device("cpu"))
    assert told == "Triton does not work here (Failed to compile)"
    assert [record.getMessage() for record in caplog.records] == [
        "Triton does not work here: computing slower without it (Failed to compile)"
    ]


def test_without_triton_nothing_is_tried(monkeypatch, caplog):
    monkeypatch.setattr(availability, "find_spec", lambda _name: None)
    assert not availability.kernels_work(torch.device("cpu"))
    assert availability.why_no_kernels(torch.device("cpu")) == "Triton is not installed"
    assert caplog.records == []


def test_a_gpu_that_is_too_old_has_none(monkeypatch):
    monkeypatch.setattr(availability, "find_spec", lambda _name: True)
    monkeypatch.setattr(availability, "_capability", lambda _device: (7, 0))
    told = availability.why_no_kernels(torch.device("cuda"))
    assert told == "this GPU is older than those that Triton compiles for"
