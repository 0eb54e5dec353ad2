import json
import shutil

import pytest

from rasengan_xl.comparison.execute import run_comparison
from rasengan_xl.comparison.result import RESULT_FILE, Comparison, SweepTrial
from rasengan_xl.comparison.side_by_side import JobEnded
from rasengan_xl.comparison.sweep import (
    choose_rates,
    keep_failure,
    list_trials,
    settle_rates,
    tell_edges,
)
from rasengan_xl.dataset.encoded import encode_dataset
from rasengan_xl.errors import RecipeError
from rasengan_xl.evaluation.held_out import build_table
from rasengan_xl.sdxl.compute import choose_compute
from rasengan_xl.sdxl.model_folder import find_model
from rasengan_xl.sdxl.noise_schedule import load_noise_schedule

from ..exhaust import exhaust

TUNED = {"evaluation": {"tuning_pictures": 4}}
SWEEP = {"learning_rate": [1e-3, 1e-2, 3e-2], "seed": 9, "steps": 3}


def tried(rates):
    return [
        SweepTrial(learning_rate=rate, status="finished", tuning_loss=loss, chosen=False)
        for rate, loss in rates.items()
    ]


@pytest.fixture
def swept(comparison):
    return comparison(
        {"lora": TUNED, "dora": TUNED | {"adapter": {"decompose": True}}}, sweep=SWEEP
    )


def test_every_arm_tries_every_rate_with_a_seed_that_no_reported_run_has(swept, folder):
    trials = list_trials(swept, folder)
    assert [(t.arm, t.learning_rate) for t in trials] == [
        (arm, rate) for arm in ("lora", "dora") for rate in (1e-3, 1e-2, 3e-2)
    ]
    for trial in trials:
        assert trial.settings.seed == 9
        assert trial.settings.training.steps == 3
        assert trial.settings.training.learning_rate == trial.learning_rate
        assert trial.settings.evaluation.split == "tuning"


def test_tuning_pictures_are_none_that_a_figure_is_reported_on(settings, portraits):
    source = {"source": str(portraits), "held_out_minimum": 9}
    chosen = settings(dataset=source, **TUNED)
    model, compute = find_model(chosen.base_model), choose_compute(chosen.compute)
    dataset = exhaust(encode_dataset(chosen, model, compute))
    schedule = load_noise_schedule(model, zero_terminal_snr=None)
    tables = [
        build_table(dataset.held_out, schedule, settings(dataset=source, evaluation=evaluation))
        for evaluation in ({"tuning_pictures": 4}, {"tuning_pictures": 4, "split": "tuning"})
    ]
    reported, tuning = ({p.digest for p in table.pictures.pictures} for table in tables)
    assert (len(reported), len(tuning)) == (5, 4)
    assert not reported & tuning
    trained = {p.digest for p in dataset.train.pictures}
    assert not trained & (reported | tuning)


@pytest.fixture
def finished_sweep(begin_with, swept):
    begin_with("swept", swept)


def test_the_rate_with_the_lowest_tuning_loss_is_trained_with(folder, finished_sweep):
    result = Comparison.model_validate_json((folder.root / RESULT_FILE).read_text())
    assert [len(result.sweep[arm]) for arm in ("lora", "dora")] == [3, 3]
    for arm in result.arms:
        trials = result.sweep[arm.name]
        best = min(trials, key=lambda trial: trial.tuning_loss)
        assert [trial.learning_rate for trial in trials if trial.chosen] == [best.learning_rate]
        assert arm.settings["training"]["learning_rate"] == best.learning_rate
        assert best.n == 4 * 2
        run = folder.run(arm.name, 0).read_settings()
        assert run.training.learning_rate == best.learning_rate
        assert run.evaluation.split == "reported"


def test_only_the_named_arms_try_rates(swept, folder, place):
    list(run_comparison(swept, folder.root, place=place, only=["dora"]))
    assert [run.split("/")[1] for run in place.runs] == ["dora"] * 4
    with pytest.raises(RecipeError, match="--only dara: no such arm"):
        list(run_comparison(swept, folder.root, place=place, only=["dara"]))


def test_a_rate_that_would_do_better_later_changes_no_run_that_has_begun(
    swept, folder, finished_sweep, place
):
    chosen = folder.run("lora", 0).read_settings().training.learning_rate
    trial = folder.trial("lora", next(r for r in (1e-3, 1e-2, 3e-2) if r != chosen))
    better = json.loads(trial.summary_file.read_text())
    better["held_out_loss"]["adapted"] = 1e-6
    trial.summary_file.write_text(json.dumps(better))
    more = swept.model_copy(update={"seeds": (0, 1)})
    list(run_comparison(more, folder.root, place=place))
    assert folder.run("lora", 1).read_settings().training.learning_rate == chosen
    result = Comparison.model_validate_json((folder.root / RESULT_FILE).read_text())
    assert any("lora: keeps the learning rate" in note for note in result.notes)


def test_trials_are_not_tried_again(swept, folder, finished_sweep, place):
    list(run_comparison(swept, folder.root, place=place))
    assert place.runs == []


def test_a_rate_that_diverges_is_recorded_and_another_is_chosen(comparison, folder, place):
    wild = TUNED | {"training": {"max_gradient_norm": 1e30}}
    sweep = {"learning_rate": [1e-2, 1e30], "seed": 9}
    list(run_comparison(comparison({"lora": wild}, sweep=sweep), folder.root, place=place))
    result = Comparison.model_validate_json((folder.root / RESULT_FILE).read_text())
    fine, diverged = result.sweep["lora"]
    assert fine.chosen
    assert diverged.status == "failed"
    assert "step" in diverged.reason
    place.orders.clear()
    list(run_comparison(comparison({"lora": wild}, sweep=sweep), folder.root, place=place))
    assert place.runs == [], "it would diverge again"
    assert result.arms[0].runs[0].status == "finished"


def test_an_arm_none_of_whose_rates_can_be_trained_fails_and_says_why(comparison, folder, place):
    wild = TUNED | {"training": {"max_gradient_norm": 1e30}}
    sweep = {"learning_rate": [1e29, 1e30], "seed": 9}
    list(run_comparison(comparison({"lora": wild}, sweep=sweep), folder.root, place=place))
    result = Comparison.model_validate_json((folder.root / RESULT_FILE).read_text())
    (run,) = result.arms[0].runs
    assert run.status == "failed"
    assert run.reason.startswith("no learning rate could be chosen: ")


def test_a_best_rate_at_the_edge_of_the_grid_is_told(swept, folder):
    sweep = {"lora": tried({1e-3: 0.3, 1e-2: 0.2, 3e-2: 0.1})}
    sweep["lora"][2] = sweep["lora"][2].model_copy(update={"chosen": True})
    (told,) = tell_edges(sweep)
    assert "0.03, is the highest" in told


def test_rates_that_were_not_tried_yet_choose_nothing(swept, folder):
    sweep = choose_rates(list_trials(swept, folder), {})
    assert not any(trial.chosen for trials in sweep.values() for trial in trials)
    assert settle_rates(swept, sweep) == swept


def test_a_sweep_without_pictures_of_its_own_is_refused(comparison):
    with pytest.raises(ValueError, match="evaluation.tuning_pictures"):
        comparison({"lora": {}}, sweep=SWEEP)


def test_a_sweep_with_the_seed_of_a_reported_run_is_refused(comparison):
    with pytest.raises(ValueError, match="sweep.seed = 0 is among seeds"):
        comparison({"lora": TUNED}, sweep=SWEEP | {"seed": 0})


def test_rates_that_would_share_a_folder_are_refused(comparison):
    with pytest.raises(ValueError, match="names 0.001 twice"):
        comparison({"lora": TUNED}, sweep=SWEEP | {"learning_rate": [1e-3, 1.0000001e-3]})


def begin(run, settings, rate):
    training = settings.training.model_copy(update={"learning_rate": rate})
    run.start(settings.model_copy(update={"training": training}))


def test_an_arm_keeps_the_rate_that_its_runs_were_begun_with(swept, folder):
    begin(folder.run("lora", 0), swept.arms["lora"], 1e-2)
    trials = list_trials(swept, folder)
    assert {trial.arm for trial in trials if trial.is_waiting} == {"dora"}
    sweep = choose_rates(trials)
    assert [trial.learning_rate for trial in sweep["lora"] if trial.chosen] == [1e-2]
    assert "had begun with 0.01" in sweep["lora"][0].reason
    settled = settle_rates(swept, sweep)
    assert settled.arms["lora"].training.learning_rate == 1e-2
    assert settled.arms["dora"] == swept.arms["dora"]
    (told,) = tell_edges(sweep)
    assert told.startswith("lora: keeps the learning rate 0.01")


def test_a_begun_rate_that_the_sweep_no_longer_names_still_stands(swept, folder):
    begin(folder.run("lora", 0), swept.arms["lora"], 5e-4)
    sweep = choose_rates(list_trials(swept, folder))
    assert [trial.learning_rate for trial in sweep["lora"]] == [1e-3, 1e-2, 3e-2, 5e-4]
    assert sweep["lora"][-1].chosen
    assert settle_rates(swept, sweep).arms["lora"].training.learning_rate == 5e-4


def test_only_named_arms_try_rates_and_a_name_that_is_none_is_refused(swept, folder):
    trials = list_trials(swept, folder, ["dora"])
    assert {trial.arm for trial in trials if trial.is_waiting} == {"dora"}
    assert {trial.arm for trial in trials} == {"lora", "dora"}, "the others are still told of"
    with pytest.raises(RecipeError, match="--only dara: no such arm, did you mean 'dora'"):
        list_trials(swept, folder, ["dara"])


@pytest.mark.parametrize(
    ("begun", "lost", "again"), [(True, False, False), (True, True, True), (False, False, True)]
)
def test_a_trial_that_failed_by_itself_is_not_tried_again(swept, folder, begun, lost, again):
    trial = list_trials(swept, folder)[0]
    if begun:
        trial.folder.start(trial.settings)
    end = JobEnded(job=trial.name, attempts=1, seconds=1.0, reason="step 2: not finite", lost=lost)
    keep_failure(trial, end)
    known = list_trials(swept, folder)
    assert known[0].is_waiting == again
    expected = "not tried yet" if again else "step 2: not finite"
    assert choose_rates(known)["lora"][0].reason == expected


def test_a_trial_whose_folder_was_removed_is_tried_again(swept, folder):
    trial = list_trials(swept, folder)[0]
    trial.folder.start(trial.settings)
    keep_failure(trial, JobEnded(job=trial.name, attempts=1, seconds=1.0, reason="not finite"))
    assert not trial.is_waiting
    shutil.rmtree(trial.folder.path)
    assert trial.is_waiting


@pytest.fixture
def copied(portraits, tmp_path):
    """Every portrait twice, with different captions."""
    folder = tmp_path / "copied"
    folder.mkdir()
    for file in portraits.glob("*.png"):
        caption = file.with_suffix(".txt").read_text()
        for copy in (file.stem, f"again-{file.stem}"):
            (folder / f"{copy}.png").write_bytes(file.read_bytes())
            (folder / f"{copy}.txt").write_text(f"{caption} ({copy})")
    return folder


def test_copies_of_a_tuning_picture_are_not_reported_on(settings, copied):
    source = {"source": str(copied), "held_out_minimum": 10}
    chosen = settings(dataset=source)
    model, compute = find_model(chosen.base_model), choose_compute(chosen.compute)
    dataset = exhaust(encode_dataset(chosen, model, compute))
    schedule = load_noise_schedule(model, zero_terminal_snr=None)
    reported, tuning = (
        build_table(dataset.held_out, schedule, settings(dataset=source, evaluation=evaluation))
        for evaluation in ({"tuning_pictures": 3}, {"tuning_pictures": 3, "split": "tuning"})
    )
    kept, tuned = ({p.name[-6:] for p in t.pictures.pictures} for t in (reported, tuning))
    assert (len(reported.pictures), len(tuning.pictures)) == (4, 6)
    assert not kept & tuned


def test_pictures_are_drawn_for_those_that_are_reported_on(comparison, copied, folder, place):
    source = {"source": str(copied), "held_out_minimum": 10}
    arm = {"dataset": source, "evaluation": {"tuning_pictures": 3, "pictures": 9}}
    list(run_comparison(comparison({"lora": arm}), folder.root, place=place))
    table = json.loads(folder.run("lora", 0).table_losses_file.read_text())
    reference = json.loads(folder.reference.facts_file.read_text())
    assert len(table["pictures"]) == 4, "the first three, with their copies, are not among them"
    assert reference["held_out"] == table["pictures"]
    drawn = json.loads(folder.drawn("lora/seed-0").facts_file.read_text())
    for name, prompt in zip(table["pictures"], drawn["prompts"], strict=True):
        assert name.removesuffix(".png") in prompt
