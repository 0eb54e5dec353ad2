from rasengan_xl.report.accounts import describe_comparison, describe_progress, list_incidents

from .sample import (
    build_arm,
    build_comparison,
    build_failed_run,
    build_measures,
    build_run,
    build_summary,
    estimate,
)


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


def test_a_run_that_was_never_trained_is_an_alarm_once_all_is_over():
    runs = [build_run("lora"), build_run("lora", 1, status="missing", summary=None)]
    (incident,) = list_incidents(build_comparison(build_arm("lora", runs)))
    assert (incident.what, incident.alarm) == ("lora, seed 1: not trained", True)
    running = build_comparison(build_arm("lora", runs), status="running")
    assert list_incidents(running) == []


def test_a_failed_proof_is_an_alarm():
    odd = build_run("dora", summary=build_summary("dora", 0, trace_hash="f" * 16))
    arms = [build_arm("lora", [build_run("lora")]), build_arm("dora", [odd])]
    (incident,) = list_incidents(build_comparison(*arms))
    assert incident.what == "Seed 0: runs were not shown the same"
    assert incident.alarm


def test_it_is_said_where_the_loss_is_over_a_part_of_the_held_out_pictures():
    measures = [
        m.model_copy(update={"arms": {"lora": estimate(0.1, pictures=24)}})
        for m in build_measures(("lora",))[:1]
    ]
    text = describe_comparison(build_comparison(build_arm("lora"), measures=measures))
    assert text.endswith("64 more were held out to judge them by; the loss is over 24 of them.")


def test_one_sentence_says_what_was_compared():
    comparison = build_comparison(build_arm("lora"), build_arm("dora"))
    assert describe_comparison(comparison) == (
        "2 ways of fine-tuning mini, 3 training seeds each, trained on the same 1,157 pictures "
        "from mini; 64 more were held out to judge them by."
    )
    lacking = comparison.model_copy(update={"dataset": None})
    assert "none came far enough" in describe_comparison(lacking)


def test_an_adapter_that_was_given_is_not_said_to_be_trained():
    given = build_arm("theirs").model_copy(update={"given": "a LoRA"})
    text = describe_comparison(build_comparison(build_arm("lora"), given))
    assert text.startswith("1 way of fine-tuning mini, 3 training seeds each, trained on")
    assert "from mini; beside 1 adapter not trained here; 64 more" in text
    text = describe_comparison(build_comparison(given))
    assert text.startswith("1 adapter for mini, not trained here, judged by 64 held-out pictures")
    assert "fine-tuning" not in text


def test_progress_counts_runs(rich_comparison):
    assert describe_progress(rich_comparison) == "11 of 12 runs finished, 1 failed"
