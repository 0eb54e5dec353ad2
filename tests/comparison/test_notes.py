from types import SimpleNamespace

from rasengan_xl.comparison.notes import _tell_engines
from rasengan_xl.engine.options import EngineOptions


def told(**engines):
    subjects = [
        SimpleNamespace(arm=arm, summary=engine and SimpleNamespace(engine=engine.facts()))
        for arm, engine in engines.items()
    ]
    return list(_tell_engines(SimpleNamespace(subjects=subjects)))


def test_arms_that_were_computed_alike_and_a_base_that_was_not_trained_need_no_note():
    assert told(base=None, lora=EngineOptions(), dora=EngineOptions()) == []


def test_what_arms_were_not_computed_alike_in_is_told_with_who_was_how():
    small = EngineOptions(memory="recompute-all")
    (note,) = told(base=None, lora=EngineOptions(), dora=small, qlora=small)
    assert "engine.memory was keep-all in lora, recompute-all in dora, qlora" in note
    assert "cuda_graph" not in note
    assert "times and memory" in note
