from rasengan_xl.report.wording import (
    describe_comparison,
    describe_pictures,
    describe_traces,
    list_findings,
    saw_the_same,
)


def test_one_sentence_says_what_was_compared(make_comparison, make_arm):
    comparison = make_comparison(make_arm("lora"), make_arm("dora"))
    assert describe_comparison(comparison) == (
        "2 ways of fine-tuning mini, trained on the same 1,157 pictures from mini with seed 7; "
        "64 more were held out to judge them by."
    )


def test_several_seeds_are_listed(make_comparison, make_arm):
    comparison = make_comparison(make_arm("a", seed=2), make_arm("b", seed=1))
    assert "with seeds 1, 2;" in describe_comparison(comparison)


def test_pictures_are_described_without_the_prompts_beside_them(make_comparison, make_arm):
    description = describe_pictures(make_comparison(make_arm()))
    assert description == "Each row starts from the same noise. Sampler steps 30, guidance 5."


def test_equal_trace_hashes_are_said_to_be_equal(make_arm, make_failed_arm):
    arms = [make_arm("lora"), make_arm("dora"), make_failed_arm("qlora")]
    assert saw_the_same(arms)
    assert describe_traces(arms).startswith("All 2 trace hashes are equal")


def test_different_trace_hashes_are_a_warning(make_arm):
    arms = [make_arm("lora"), make_arm("dora", trace_hash="another")]
    assert not saw_the_same(arms)
    assert "not all equal" in describe_traces(arms)


def test_one_trace_hash_proves_nothing(make_arm, make_failed_arm):
    arms = [make_arm("lora"), make_failed_arm("dora")]
    assert not saw_the_same(arms)
    assert describe_traces(arms).startswith("Fewer than two")


def test_findings_name_the_extremes_with_their_figures(make_arm):
    arms = [make_arm("lora"), make_arm("qlora", peak_memory_gib=5.157)]
    memory, losses = list_findings(arms)
    assert memory == (
        "qlora needs the least memory (5.16 GiB); lora needs 2.00 times as much (10.31 GiB)."
    )
    assert losses.startswith("2 of 2 arms lowered the held-out loss")


def test_a_change_within_its_error_is_not_called_lower(make_arm, make_held_out_loss):
    unsure = make_held_out_loss(difference=-0.001, standard_error=0.001)
    (losses,) = list_findings([make_arm("lora", held_out_loss=unsure)])
    assert losses.startswith("0 of 1 arm ")


def test_nothing_measured_is_nothing_found(make_failed_arm):
    assert list_findings([make_failed_arm()]) == []
