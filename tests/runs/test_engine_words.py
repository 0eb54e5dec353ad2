from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.runs.engine_words import tell_engine


def test_every_choice_and_every_switch_is_told():
    facts = EngineOptions(memory="recompute-all", channels_last=True).facts()
    told = tell_engine(facts)
    assert told.startswith("fused, recompute-all, default; with ")
    on, off = told.split("; without ")
    assert "channels_last" in on
    assert "cuda_graph" in off
    assert all(name in told for name, value in facts.items() if isinstance(value, bool))


def test_where_everything_is_on_nothing_is_said_to_be_off():
    assert tell_engine({"implementation": "fused", "compile": True}) == "fused; with compile"
