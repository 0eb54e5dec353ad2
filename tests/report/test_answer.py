import pytest

from rasengan_xl.comparison.result import Comparison
from rasengan_xl.report.answer import write_answer
from rasengan_xl.report.numbers import list_names

from .sample import (
    build_arm,
    build_comparison,
    build_failed_run,
    build_measures,
    build_run,
    build_summary,
    build_verdict,
    estimate,
)

KIND = "process resident"


def compare(*verdicts, **changes) -> Comparison:
    arms = [build_arm(name) for name in ("lora", "dora", "qlora-normal")]
    return build_comparison(*arms, verdicts=list(verdicts), **changes)


def finding(comparison):
    return write_answer(comparison).finding.replace("\N{NO-BREAK SPACE}", " ")


def test_arms_that_are_all_tied_are_said_to_be():
    text = finding(
        compare(
            build_verdict("lora", "dora", 0.0003),
            build_verdict("lora", "qlora-normal", -0.0008),
            build_verdict("dora", "qlora-normal", -0.0005),
        )
    )
    assert text.startswith("No difference in held-out loss was found between any of the 3 arms")
    assert "lora less qlora-normal, is \N{MINUS SIGN}0.0008 [" in text
    assert text.endswith(
        "may be chance (n = 64 pictures \N{MULTIPLICATION SIGN} 3 seeds; 95 % intervals)."
    )


def test_a_clear_winner_is_named_with_how_far_it_leads():
    text = finding(
        compare(
            build_verdict("lora", "dora", 0.005),
            build_verdict("lora", "qlora-normal", 0.0),
            build_verdict("dora", "qlora-normal", -0.004),
        )
    )
    assert text.startswith(
        "dora gives the best held-out loss: lower by 0.0050 [0.0040, 0.0060] than lora and "
        "0.0040 [0.0030, 0.0050] than qlora-normal"
    )


def test_leaders_that_cannot_be_told_apart_lead_together():
    text = finding(
        compare(
            build_verdict("lora", "dora", 0.0),
            build_verdict("lora", "qlora-normal", -0.005),
            build_verdict("dora", "qlora-normal", -0.004),
        )
    )
    assert (
        "lora and dora cannot be told apart, and each is better than qlora-normal; the smallest "
        "difference, dora from qlora-normal, is 0.0040 [0.0030, 0.0050]" in text
    )


def test_the_smallest_difference_is_that_of_a_leader_not_of_losers():
    arms = ("a", "b", "c", "d")
    text = finding(
        build_comparison(
            *map(build_arm, arms),
            verdicts=[
                build_verdict("a", "b", 0.0),
                *(build_verdict(first, "c", -0.005) for first in "ab"),
                *(build_verdict(first, "d", -0.007) for first in "ab"),
                build_verdict("c", "d", -0.002),
            ],
        )
    )
    assert "the smallest difference, a from c, is 0.0050 [0.0040, 0.0060]" in text


def unjudged(first, second, seeds):
    changes = {"outcome": "not judged", "p_value": None, "seeds": seeds}
    return build_verdict(first, second, -0.02, **changes)


def test_no_winner_is_named_over_an_arm_that_was_not_judged():
    text = finding(
        compare(
            build_verdict("lora", "dora", -0.005),
            unjudged("lora", "qlora-normal", 1),
            unjudged("dora", "qlora-normal", 1),
        )
    )
    assert "gives the best" not in text
    assert text.startswith("By held-out loss, lora is better than dora by 0.0050")
    assert text.endswith(
        "qlora-normal was not judged against any other arm: only one training seed finished on "
        "both sides, and a verdict takes 2."
    )


def test_a_pair_without_a_common_seed_is_named():
    text = finding(
        compare(
            build_verdict("lora", "dora", -0.005),
            build_verdict("lora", "qlora-normal", -0.005),
            unjudged("dora", "qlora-normal", 0),
        )
    )
    assert text.startswith("lora gives the best held-out loss")
    assert "dora and qlora-normal were not judged against each other: no training seed" in text


def test_the_sample_counts_judged_pairs_alone():
    text = finding(
        compare(
            build_verdict("lora", "dora", 0.0),
            unjudged("lora", "qlora-normal", 1),
            unjudged("dora", "qlora-normal", 1),
        )
    )
    assert "found in one pair that could be judged; the difference, lora less dora, is" in text
    assert "(n = 64 pictures \N{MULTIPLICATION SIGN} 3 seeds; 95 % intervals)" in text


def test_verdicts_that_go_in_a_circle_are_said_to():
    text = finding(
        compare(
            build_verdict("lora", "dora", -0.005),
            build_verdict("dora", "qlora-normal", -0.004),
            build_verdict("lora", "qlora-normal", 0.003),
        )
    )
    assert text.startswith(
        "By held-out loss, verdicts go in a circle, so no arm is best: lora is better than dora"
    )
    assert "qlora-normal is better than lora by 0.0030" in text


def test_an_arm_that_was_not_measured_is_named():
    arms = [build_arm("lora"), build_arm("dora"), build_arm("gone", [build_failed_run("gone", 0)])]
    assert finding(build_comparison(*arms)).endswith("gone was not measured.")


def test_a_failed_proof_is_said_before_the_finding():
    odd = build_run("dora", 1, summary=build_summary("dora", 1, trace_hash="f" * 16))
    arms = [build_arm("lora"), build_arm("dora", [build_run("dora", 0), odd])]
    text = finding(build_comparison(*arms))
    assert text.startswith("Beware: runs of seed 1 were not shown the same pictures and noise")


def test_a_partial_order_names_the_pairs():
    text = finding(
        compare(
            build_verdict("lora", "dora", 0.0),
            build_verdict("lora", "qlora-normal", -0.005),
            build_verdict("dora", "qlora-normal", -0.0005),
        )
    )
    assert "lora is better than qlora-normal by 0.0050" in text
    assert "2 pairs cannot be told apart" in text


def test_a_failed_run_leaves_a_pair_with_fewer_seeds_and_that_is_said():
    text = finding(
        compare(
            build_verdict("lora", "dora", 0.0, seeds=2), build_verdict("lora", "qlora-normal", 0.0)
        )
    )
    assert "3 seeds, 2 where a run is missing" in text


def test_one_seed_gives_no_verdict_but_intervals_over_pictures():
    arms = [build_arm(name, [build_run(name)]) for name in ("lora", "dora")]
    verdicts = [build_verdict("lora", "dora", -0.005, outcome="not judged", p_value=None, seeds=1)]
    comparison = build_comparison(*arms, verdicts=verdicts)
    text = finding(comparison)
    assert text.startswith("One training seed cannot tell a method from its luck")
    assert "no arm is called better" in text
    assert "0.1181 [0.1160, 0.1202]" in text
    assert not write_answer(comparison).judged


def test_too_few_finished_seeds_are_not_called_one_seed():
    verdict = build_verdict("lora", "dora", -0.005, outcome="not judged")
    assert finding(compare(verdict)).startswith("Too few runs finished")


def test_a_lone_arm_is_set_against_nothing():
    text = finding(build_comparison(build_arm("lora"), verdicts=[]))
    assert text.startswith("Only lora was measured")


def test_failures_only_leave_nothing_to_compare():
    arms = [build_arm(name, [build_failed_run(name)]) for name in ("lora", "dora")]
    answer = write_answer(build_comparison(*arms))
    assert answer.finding == (
        "No run came to its end, so there is nothing to compare. The first to fail, lora with "
        "seed 2: out of memory at step 9."
    )
    assert answer.cost == ""


def test_a_running_comparison_says_how_far_it_is():
    runs = [build_run("lora"), build_run("lora", 1, status="missing", summary=None)]
    comparison = build_comparison(
        build_arm("lora", runs), status="running", measures=[], verdicts=[], primary=None
    )
    assert "still running: 1 of 2 runs have finished" in finding(comparison)


def test_the_second_sentence_names_the_cheapest_and_the_dearest():
    cost = write_answer(compare()).cost.replace("\N{NO-BREAK SPACE}", " ")
    assert "qlora-normal takes the least training memory, 6.12 GiB [6.10, 6.14]" in cost
    assert "dora takes 1.93\N{MULTIPLICATION SIGN} as much, 11.84 GiB" in cost
    assert "lora is the fastest, 16.6 s [16.0, 17.2] of training" in cost
    assert cost.endswith("(n = 3 seeds).")


def test_a_unit_that_names_its_share_is_a_time_too():
    time = build_measures(("lora", "dora"))[-1].model_copy(update={"unit": "s/step"})
    cost = write_answer(compare(measures=[build_measures()[0], time])).cost
    assert "s/step [" in cost


def test_nearly_equal_costs_are_not_called_cheaper():
    measures = build_measures(("lora", "dora"))
    memory = next(m for m in measures if m.key == "peak_memory_gib")
    same = memory.model_copy(update={"arms": dict.fromkeys(memory.arms, memory.arms["lora"])})
    cost = write_answer(compare(measures=[measures[0], same])).cost
    assert "in training memory all arms are within 1\N{NO-BREAK SPACE}% of each other" in cost
    arms = [build_arm("lora"), build_arm("dora"), build_arm("theirs", given="their.safetensors")]
    beside_given = write_answer(compare(arms=arms, measures=[measures[0], same])).cost
    assert "all trained arms are within" in beside_given


def test_arms_not_told_from_the_cheapest_are_named_with_it():
    measures = build_measures(("lora", "dora", "qlora-normal"))
    tie = build_verdict("qlora-normal", "lora", 0.0, measure="peak_memory_gib")
    cost = write_answer(compare(tie, measures=measures)).cost.replace("\N{NO-BREAK SPACE}", " ")
    assert "lora and qlora-normal take the least training memory, 6.12 GiB [6.10, 6.14] to" in cost


def test_costs_on_unlike_devices_are_not_set_against_each_other():
    measures = build_measures(("lora", "dora"))
    unlike = [m.model_copy(update={"direction": "neither"}) for m in measures if m.group == "cost"]
    assert write_answer(compare(measures=[measures[0], *unlike])).cost == ""


def test_one_run_of_each_arm_is_called_that_and_resident_memory_the_process_s():
    names = ("lora", "dora", "qlora-normal")
    arms = [
        build_arm(name, [build_run(name, summary=build_summary(name, 0, memory_kind=KIND))])
        for name in names
    ]
    memory = next(m for m in build_measures(names) if m.key == "peak_memory_gib")
    values = {"lora": 0.79830, "dora": 0.82487, "qlora-normal": 0.79948}
    figures = {name: estimate(value, None, pictures=0, seeds=1) for name, value in values.items()}
    measures = [build_measures(names)[0], memory.model_copy(update={"arms": figures})]
    comparison = build_comparison(*arms, measures=measures, verdicts=[])
    cost = write_answer(comparison).cost.replace("\N{NO-BREAK SPACE}", " ")
    assert cost == (
        "In this one run of each arm, lora and qlora-normal take the least memory of the training "
        "process, 0.798 GiB to 0.799 GiB, and dora takes 1.03\N{MULTIPLICATION SIGN} as much, "
        "0.825 GiB (n = 1 seed)."
    )


@pytest.mark.parametrize(
    ("names", "text"),
    [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")],
)
def test_names_are_listed_as_people_do(names, text):
    assert list_names(names) == text
