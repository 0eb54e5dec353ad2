from rasengan_xl.report.sameness import compare_traces

from .sample import build_arm, build_failed_run, build_run, build_summary


def other(name, seed=0):
    return build_run(name, seed, summary=build_summary(name, seed, trace_hash="another"))


def test_runs_of_a_seed_that_agree_are_proof():
    first, second = compare_traces([build_arm("lora"), build_arm("dora")], [0, 1])
    assert first.agree
    assert second.agree
    assert first.verdict == "all 2 agree"
    assert first.hashes["lora"] != second.hashes["lora"]


def test_a_run_that_was_shown_something_else_is_told():
    arms = [build_arm("lora", [build_run("lora")]), build_arm("dora", [other("dora")])]
    (trace,) = compare_traces(arms, [0])
    assert trace.agree is False
    assert trace.verdict.startswith("do not agree")


def test_arms_with_different_batch_settings_need_not_agree():
    settings = build_arm("dora").settings
    larger = settings | {"training": settings["training"] | {"batch_size": 8}}
    arms = [
        build_arm("lora", [build_run("lora")]),
        build_arm("qlora-normal", [build_run("qlora-normal")]),
        build_arm("dora", [other("dora")], settings=larger),
    ]
    (trace,) = compare_traces(arms, [0])
    assert trace.agree
    assert "2 groups" in trace.verdict


def test_a_batch_cut_differently_is_the_same_batch():
    settings = build_arm("dora").settings
    cut = settings | {"training": settings["training"] | {"batch_size": 2, "accumulation": 2}}
    (trace,) = compare_traces([build_arm("lora"), build_arm("dora", settings=cut)], [0])
    assert trace.verdict == "all 2 agree"


def test_a_single_run_proves_nothing():
    arms = [build_arm("lora"), build_arm("dora", [build_failed_run("dora", 0)])]
    (trace,) = compare_traces(arms, [0])
    assert trace.agree is None
    assert list(trace.hashes) == ["lora"]
