"""A run's record says of the engine what was in use, not what was hoped for."""

import torch

from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.training import assembly, summary
from rasengan_xl.training.assembly import tell_lacking
from rasengan_xl.training.summary import tell_facts

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
RECORDED = EngineOptions(cuda_graph=True)


def test_recording_that_was_given_up_was_not_in_use():
    assert tell_facts(RECORDED, (), CPU) == RECORDED.facts()
    assert tell_facts(RECORDED, {"cuda_graph"}, CPU)["cuda_graph"] is False


def test_on_a_gpu_it_is_told_whether_triton_was_there(monkeypatch):
    for reason in (None, "Triton is not installed"):
        monkeypatch.setattr(summary, "why_no_kernels", lambda _, reason=reason: reason)
        monkeypatch.setattr(assembly, "why_no_kernels", lambda _, reason=reason: reason)
        assert tell_facts(RECORDED, (), CUDA)["triton"] is (reason is None)
        told = list(tell_lacking(RECORDED, Compute(CUDA, torch.float16)))
        slower = f"PyTorch's own kernels are used, which are slower: {reason}"
        assert told == ([slower] if reason else [])


def test_where_it_has_no_part_nothing_is_said_of_triton():
    peft = EngineOptions(implementation="peft")
    assert "triton" not in tell_facts(peft, (), CUDA)
    assert not list(tell_lacking(peft, Compute(CUDA, torch.float16)))
    assert not list(tell_lacking(RECORDED, Compute(CPU, torch.float32)))
