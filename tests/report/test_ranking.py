import pytest

from rasengan_xl.report.ranking import rank

from .sample import build_verdict

APART = 0.005


def test_a_gap_names_the_better_arm_first_whichever_way_it_was_taken():
    worse, better = build_verdict("a", "b", APART), build_verdict("a", "b", -APART)
    assert [(gap.winner, gap.loser) for gap in rank([worse]).gaps] == [("b", "a")]
    (gap,) = rank([better]).gaps
    assert (gap.winner, gap.loser, gap.size) == ("a", "b", APART)
    assert (gap.low, gap.high) == pytest.approx((0.004, 0.006))


def test_a_difference_where_higher_is_better_gives_a_positive_gap():
    verdict = build_verdict("a", "b", APART, outcome="better", low=0.001, high=0.009)
    (gap,) = rank([verdict]).gaps
    assert (gap.winner, gap.size, gap.low, gap.high) == ("a", APART, 0.001, 0.009)


def test_an_interval_that_reaches_over_nought_keeps_its_sign():
    verdict = build_verdict("a", "b", -APART, outcome="better", low=-0.011, high=0.001)
    (gap,) = rank([verdict]).gaps
    assert (gap.low, gap.high) == (-0.001, 0.011)


def test_leaders_are_those_that_nothing_beats():
    ranking = rank(
        [build_verdict("a", "b", 0.0), build_verdict("a", "c", -APART), build_verdict("b", "c", 0)]
    )
    assert ranking.leaders == ["a", "b"]
    assert not ranking.splits  # b was not told from c


def test_leaders_that_each_beat_all_others_split_the_arms():
    ranking = rank(
        [
            build_verdict("a", "b", 0.0),
            build_verdict("a", "c", -APART),
            build_verdict("b", "c", -APART),
        ]
    )
    assert ranking.splits


def test_verdicts_that_were_not_judged_rank_no_one():
    ranking = rank([build_verdict("a", "b", -APART, outcome="not judged")])
    assert ranking.leaders == ranking.gaps == ranking.tied == []
    assert not ranking.judged
    assert not ranking.splits


def test_an_arm_with_a_pair_that_was_not_judged_leads_nobody():
    ranking = rank(
        [
            build_verdict("a", "b", -APART),
            build_verdict("a", "c", -APART, outcome="not judged"),
            build_verdict("b", "c", 0.0),
        ]
    )
    assert ranking.unbeaten == ["a", "c"]
    assert ranking.leaders == []
    assert not ranking.splits


def test_a_circle_has_no_leader():
    pairs = [("a", "b"), ("b", "c"), ("c", "a")]
    ranking = rank([build_verdict(first, second, -APART) for first, second in pairs])
    assert ranking.circular
    assert ranking.leaders == []
    assert not rank([build_verdict("a", "b", -APART)]).circular
