import pytest

from rasengan_xl.config.recipe import lay_over, parse_override
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.runs.resuming import explain_changes, global_batch


def changed(*overrides):
    tree = RunSettings().model_dump(mode="json")
    for override in overrides:
        lay_over(tree, parse_override(override))
    return RunSettings.model_validate(tree)


def changes(*overrides, begun_batch=4, processes=1):
    return explain_changes(RunSettings(), changed(*overrides), begun_batch, processes)


def test_the_same_settings_are_no_change():
    assert global_batch(RunSettings(), 1) == 4
    assert changes() is None


def test_every_change_that_matters_is_named_with_old_and_new_value():
    told = changes("seed=3", "training.learning_rate=1e-3", "training.ema_decay=0.9")
    assert told == (
        "seed was 0, is 3; training.learning_rate was 0.0001, is 0.001; "
        "training.ema_decay was unset, is 0.9"
    )


@pytest.mark.parametrize(
    "override",
    [
        "training.save_every=7",
        "training.keep_checkpoints=9",
        "engine.memory=recompute-all",
        "evaluation.pictures=3",
        "evaluation.checkpoint_pictures=0",
        "compute.device=cpu",
        "dataset.streaming=true",
    ],
)
def test_what_changes_nothing_may_be_changed(override):
    assert changes(override) is None
    assert changes(override, "seed=1") == "seed was 0, is 1"


def test_a_step_may_be_cut_otherwise_while_it_is_over_as_many_pictures():
    cut = ("training.batch_size=1", "training.accumulation=4")
    assert changes(*cut) is None
    assert changes("training.batch_size=1", processes=2) is None
    assert changes("training.batch_size=1") == "training.batch_size was 2, is 1"
    assert changes("training.accumulation=4") == "training.accumulation was 2, is 4"


def test_other_processes_with_the_same_settings_are_a_change_too():
    told = changes(processes=2)
    assert told == (
        "a step was over 4 pictures, is over 8 (batch_size 2 x accumulation 2 x 2 processes)"
    )
    assert changes(begun_batch=8, processes=2) is None


def test_a_step_is_not_cut_otherwise_where_adapter_dropout_would_draw_otherwise():
    begun = changed("adapter.dropout=0.1")
    now = changed("adapter.dropout=0.1", "training.batch_size=1", "training.accumulation=4")
    told = explain_changes(begun, now, 4, 1)
    assert "training.batch_size was 2, is 1" in told
    assert explain_changes(RunSettings(), changed(*CUT_INTO_ONES), 4, 1) is None


CUT_INTO_ONES = ("training.batch_size=1", "training.accumulation=4")
