from rasengan_xl.report.accounts import describe_comparison, describe_progress, list_incidents

from .sample import build_arm, build_comparison, build_failed_run, build_run


def test_failures_come_first_with_their_reasons(rich_comparison):
    incidents = list_incidents(rich_comparison)
    assert incidents[0].what == "dora, seed 2: failed"
    assert incidents[0].why == "out of memory at step 9"
    assert [incident.alarm for incident in incidents] == [True, False, False]
    assert "dino" in incidents[1].what


def test_a_failure_without_a_reason_says_so():
    arm = build_arm("dora", [build_failed_run(reason=None)])
    assert list_incidents(build_comparison(arm))[0].why == "No reason was recorded."


def test_a_second_attempt_is_told():
    arm = build_arm("lora", [build_run("lora", attempts=2)])
    assert list_incidents(build_comparison(arm))[0].what == "lora, seed 0: 2 attempts"


def test_one_sentence_says_what_was_compared():
    comparison = build_comparison(build_arm("lora"), build_arm("dora"))
    assert describe_comparison(comparison) == (
        "2 ways of fine-tuning mini, 3 training seeds each, trained on the same 1,157 pictures "
        "from mini; 64 more were held out to judge them by."
    )
    lacking = comparison.model_copy(update={"dataset": None})
    assert "none came far enough" in describe_comparison(lacking)


def test_progress_counts_runs(rich_comparison):
    assert describe_progress(rich_comparison) == "11 of 12 runs finished, 1 failed"
