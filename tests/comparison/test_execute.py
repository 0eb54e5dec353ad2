import json
import shutil

import pytest
from PIL import Image

from rasengan_xl.comparison import examine
from rasengan_xl.comparison.execute import run_comparison
from rasengan_xl.comparison.lock import claim_alone
from rasengan_xl.comparison.orders import Examine
from rasengan_xl.comparison.result import RESULT_FILE, Comparison
from rasengan_xl.comparison.side_by_side import JobEnded, JobRetried
from rasengan_xl.errors import DivergedError, OutputError, RasenganError, RecipeError
from rasengan_xl.report.page import write_report

from ..evaluation.tiny_encoders import write_clip, write_dino

LORA, NF4 = {}, {"adapter": {"base_precision": "nf4"}}
WILD = {"training": {"learning_rate": 1e30, "max_gradient_norm": 1e30}}


def run(settings, folder, place, **details):
    return list(run_comparison(settings, folder.root, place=place, **details))


def read(folder):
    return Comparison.model_validate_json((folder.root / RESULT_FILE).read_text())


def outcomes(events):
    return {event.job: event.reason for event in events if isinstance(event, JobEnded)}


def examined(place):
    orders = [order for order in place.orders if isinstance(order, Examine)]
    return [subject.name for order in orders for subject in order.subjects]


@pytest.fixture
def finished_lora(begin_with, comparison):
    begin_with("lora", comparison({"lora": LORA}))


@pytest.fixture
def finished_both(begin_with, comparison):
    begin_with("both", comparison({"lora": LORA, "nf4": NF4}))


@pytest.mark.slow
def test_real_workers_train_every_run_and_one_that_fails_is_recorded(comparison, folder):
    settings = comparison({"nf4": NF4, "wild": WILD})
    ended = outcomes(run_comparison(settings, folder.root, command="rasengan compare test"))
    assert ended["nf4/seed-0"] is None
    assert "step" in ended["wild/seed-0"]

    result = read(folder)
    assert result.status == "finished"
    assert result.command == "rasengan compare test"
    nf4, wild = result.arms
    assert [run.status for arm in result.arms for run in arm.runs] == ["finished", "failed"]
    assert wild.runs[0].reason == ended["wild/seed-0"]
    assert wild.differs["adapter.base_precision"] == "full"
    assert nf4.differs["adapter.base_precision"] == "nf4"
    assert result.dataset.train == 11
    assert nf4.flops_per_step > 0
    assert result.probe.teraflops_per_second > 0
    for row in result.pictures:
        assert set(row.arms) == {"nf4"}
        for path in (row.base, *(p for arm in row.arms.values() for p in arm.values())):
            with Image.open(folder.root / path) as picture:
                assert picture.size == (32, 32)
    card = folder.run("nf4", 0).card_file.read_text()
    assert "![with this adapter](samples/000-seed" in card
    assert "QLoRA" in card
    assert not folder.run("wild", 0).card_file.exists()
    page = write_report(folder.root).read_text()
    assert wild.runs[0].reason.split(";")[0] in page


def test_every_arm_is_trained_with_every_seed_and_measured_over_both(comparison, folder, place):
    run(comparison({"lora": LORA, "nf4": NF4}, seeds=[3, 4]), folder, place)
    assert place.runs == [
        "arms/lora/seed-3",
        "arms/nf4/seed-3",
        "arms/lora/seed-4",
        "arms/nf4/seed-4",
    ]
    result = read(folder)
    by_key = {measure.key: measure for measure in result.measures}
    loss = by_key["held_out_loss"]
    assert (loss.arms["lora"].seeds, loss.arms["lora"].pictures) == (2, 2)
    assert loss.arms["lora"].low < loss.arms["lora"].value < loss.arms["lora"].high
    assert by_key["cmmd_reader"].arms["nf4"].pictures == 8
    assert by_key["caption_fidelity"].base.seeds == 0
    shares = [e for m in result.measures if m.group == "captions" for e in m.arms.values()]
    assert all(0 <= e.low <= e.value <= e.high <= 1 for e in shares if e.low is not None)
    assert result.primary == "held_out_loss"
    pairs = [(v.first, v.second) for v in result.verdicts if v.measure == "held_out_loss"]
    assert pairs == [("lora", "nf4")]
    hashes = {arm.name: [run.summary.trace_hash for run in arm.runs] for arm in result.arms}
    assert hashes["lora"] == hashes["nf4"]
    assert hashes["lora"][0] != hashes["lora"][1]


def test_an_adapter_trained_on_nf4_is_judged_on_both_bases(folder, finished_both):
    effect = read(folder).quantization
    (base,) = effect.bases
    assert base.base_precision == "nf4"
    assert base.on_quantized.value != base.on_full.value
    assert base.difference.value == pytest.approx(base.on_full.value - base.on_quantized.value)
    assert set(effect.arms) == {"nf4"}
    nf4 = effect.arms["nf4"]
    assert nf4.on_full.value != nf4.on_quantized.value
    loss = next(m for m in read(folder).measures if m.key == "held_out_loss")
    assert loss.arms["nf4"].value == nf4.on_full.value, "arms are compared on the base people use"


def test_a_loss_on_the_unquantized_base_is_that_of_the_run_itself(folder, finished_both):
    """The examiner's pipeline and the trainer measure the same."""
    facts = json.loads(folder.drawn("base").facts_file.read_text())
    table = json.loads(folder.run("lora", 0).table_losses_file.read_text())
    assert facts["losses"] == [pytest.approx(row, rel=1e-5) for row in table["base"]]


def test_what_is_finished_is_kept_and_only_what_is_new_is_run(
    comparison, folder, finished_lora, place
):
    arms = {"lora": LORA, "nf4": NF4}
    before = folder.run("lora", 0).adapter_file.stat().st_mtime_ns
    run(comparison(arms, seeds=[0, 1]), folder, place)
    assert place.runs == ["arms/nf4/seed-0", "arms/lora/seed-1", "arms/nf4/seed-1"]
    assert folder.run("lora", 0).adapter_file.stat().st_mtime_ns == before
    # The base is examined again, since its loss on the unquantized base is asked for now.
    assert set(examined(place)) == {"base", "lora/seed-1", "nf4/seed-0", "nf4/seed-1"}
    place.orders.clear()
    run(comparison(arms, seeds=[0, 1]), folder, place)
    assert place.runs == []
    assert examined(place) == []


def test_a_comparison_that_was_stopped_goes_on_with_the_very_next_step(
    comparison, folder, place, stop_after_two_steps
):
    settings = comparison({"lora": {"training": {"save_every": 1}}})
    stop_after_two_steps(settings, folder, place)
    assert not folder.run("lora", 0).is_finished
    place.orders.clear()
    run(settings, folder, place)
    assert [order.resume for order in place.orders if hasattr(order, "run")] == [True]
    steps = folder.run("lora", 0).records()
    assert [record.step for record in steps] == [1, 2, 3, 4]


def test_a_lost_worker_is_replaced_once_and_told_of(comparison, folder, place):
    place.lose["arms/lora/seed-0"] = [2]
    place.lose["arms/dora/seed-0"] = [1, 3]
    settings = comparison(
        {
            "lora": {"training": {"save_every": 1}},
            "dora": {"adapter": {"decompose": True}, "training": {"save_every": 1}},
        }
    )
    events = run(settings, folder, place)
    assert sum(isinstance(event, JobRetried) for event in events) == 2
    assert outcomes(events)["lora/seed-0"] is None
    assert outcomes(events)["dora/seed-0"] == "killed by signal 9"
    lora, dora = read(folder).arms
    assert (lora.runs[0].status, lora.runs[0].attempts) == ("finished", 2)
    assert (dora.runs[0].status, dora.runs[0].attempts) == ("failed", 2)


def test_a_failed_run_is_tried_again_by_the_next_call(comparison, folder, place):
    place.lose["arms/lora/seed-0"] = [1, 2]
    settings = comparison({"lora": {"training": {"save_every": 1}}})
    run(settings, folder, place)
    assert read(folder).arms[0].runs[0].status == "failed"
    run(settings, folder, place)
    assert read(folder).arms[0].runs[0].status == "finished"


def test_a_run_made_with_other_settings_is_refused_by_name(
    comparison, folder, finished_lora, place
):
    changed = comparison({"lora": {"training": {"learning_rate": 3e-3}}})
    with pytest.raises(OutputError, match=r"training.learning_rate was 0.01, is 0.003"):
        run(changed, folder, place)
    assert place.orders == []


def test_only_the_named_arms_are_trained_and_the_others_are_missing(comparison, folder, place):
    arms = {"lora": LORA, "nf4": NF4}
    run(comparison(arms), folder, place, only=("nf4",))
    assert place.runs == ["arms/nf4/seed-0"]
    assert [arm.runs[0].status for arm in read(folder).arms] == ["missing", "finished"]
    with pytest.raises(RecipeError, match="no such arm, did you mean 'lora'"):
        run(comparison(arms), folder, place, only=("lorra",))


def test_pictures_that_were_drawn_are_not_drawn_again_when_judging_broke_off(
    comparison, folder, place, monkeypatch
):
    def break_off(*_):
        raise RasenganError("no more")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(examine, "score_subjects", break_off)
        events = run(comparison({"lora": LORA}), folder, place)
    assert outcomes(events)["draw and judge"] == "no more"
    result = read(folder)
    assert any("no more" in note for note in result.notes)
    assert [m.key for m in result.measures if m.group == "loss"] == ["held_out_loss"]
    drawn = folder.drawn("lora/seed-0").picture_file("scored", 0)
    before = drawn.stat().st_mtime_ns
    run(comparison({"lora": LORA}), folder, place)
    assert drawn.stat().st_mtime_ns == before
    assert "style_share" in {m.key for m in read(folder).measures}


def test_one_that_cannot_draw_does_not_keep_the_others_from_it(
    comparison, folder, place, monkeypatch
):
    drawn = examine.draw_timed

    def fail_for_lora(pipeline, requests, drawing):
        if any(module._forward_hooks for module in pipeline.unet.modules()):  # an adapter is on
            raise DivergedError("a picture came out not finite")
        return drawn(pipeline, requests, drawing)

    settings = comparison({"lora": LORA, "dora": {"adapter": {"decompose": True}}})
    with monkeypatch.context() as patch:
        patch.setattr(examine, "draw_timed", fail_for_lora)
        events = run(settings, folder, place)
    reason = outcomes(events)["draw and judge"]
    assert reason.startswith("lora/seed-0: a picture came out not finite; dora/seed-0: ")
    result = read(folder)
    assert result.status == "finished"
    loss = next(m for m in result.measures if m.key == "held_out_loss")
    assert set(loss.arms) == {"lora", "dora"}
    assert not any(m.group == "captions" for m in result.measures)
    run(settings, folder, place)
    assert {m.group for m in read(folder).measures} == {"loss", "pictures", "captions", "cost"}


def test_encoders_that_are_not_asked_any_more_have_no_say(comparison, folder, place, tmp_path):
    write_dino(tmp_path / "dino")
    both = {"encoders": ["dino", "reader"], "dino": str(tmp_path / "dino")}
    run(comparison({"lora": LORA}, scoring=both), folder, place)
    assert "cmmd_dino" in {m.key for m in read(folder).measures}
    shown = folder.drawn("base").picture_file("shown", 0)
    before = shown.stat().st_mtime_ns
    run(comparison({"lora": LORA}), folder, place)
    keys = {m.key for m in read(folder).measures}
    assert "cmmd_dino" not in keys
    assert "cmmd_reader" in keys
    assert shown.stat().st_mtime_ns == before, "other judges need no other pictures"
    assert not folder.drawn("base").features_file("dino").exists()


def test_an_encoder_that_could_not_be_had_is_tried_again(comparison, folder, place, tmp_path):
    scoring = {"encoders": ["dino"], "dino": str(tmp_path / "dino")}
    run(comparison({"lora": LORA}, scoring=scoring), folder, place)
    assert read(folder).encoders[0].absent is not None
    write_dino(tmp_path / "dino")
    run(comparison({"lora": LORA}, scoring=scoring), folder, place)
    assert read(folder).encoders[0].absent is None
    assert "cmmd_dino" in {m.key for m in read(folder).measures}


def test_a_clip_judges_captions_too(comparison, folder, place, tmp_path):
    write_clip(tmp_path / "clip")
    scoring = {"encoders": ["clip"], "clip": str(tmp_path / "clip")}
    run(comparison({"lora": LORA}, scoring=scoring), folder, place)
    by_key = {m.key: m for m in read(folder).measures}
    assert by_key["clip_score"].arms["lora"].pictures == 8
    assert {"cmmd_clip", "kid_clip", "drift_clip", "nearest_training"} <= set(by_key)


def test_runs_on_a_dataset_that_has_changed_are_not_set_beside_others(
    comparison, folder, place, portraits, tmp_path
):
    pictures = tmp_path / "pictures"
    shutil.copytree(portraits, pictures)
    source = {"dataset": {"source": str(pictures), "held_out_minimum": 9}}
    run(comparison({"lora": source}), folder, place)
    (pictures / "00.txt").write_text("a cat")
    with pytest.raises(OutputError, match=r"arms/lora/seed-0: the dataset .* has changed"):
        run(comparison({"lora": source}, seeds=[0, 1]), folder, place)


def test_two_commands_do_not_work_in_one_folder(comparison, folder, place):
    with (
        claim_alone(folder.root),
        pytest.raises(OutputError, match="another process is at work there"),
    ):
        run(comparison({"lora": LORA}), folder, place)


def test_a_command_killed_before_it_had_kept_its_settings_leaves_no_obstacle(
    comparison, folder, place
):
    folder.prepared_file.parent.mkdir(parents=True)
    folder.prepared_file.write_text("{}")
    folder.logs_folder.mkdir()
    run(comparison({"lora": LORA}), folder, place)
    assert read(folder).status == "finished"


def test_all_runs_may_fail_and_the_comparison_says_so(comparison, folder, finished_lora, place):
    run(comparison({"wild": WILD}), folder, place)
    result = read(folder)
    assert [run.status for arm in result.arms for run in arm.runs] == ["failed"]
    assert result.measures == []
    assert result.strata == []


def test_other_pictures_are_drawn_anew_without_training_again(
    comparison, folder, finished_lora, place
):
    run(comparison({"lora": LORA}, pictures={"prompts": ["a cat"]}), folder, place)
    assert place.runs == []
    assert examined(place) == ["base", "lora/seed-0"]
    assert read(folder).pictures[0].prompt == "a cat"


def test_a_used_folder_is_refused_before_anything_is_done(comparison, tmp_path, place):
    (tmp_path / "mine").write_text("x")
    with pytest.raises(OutputError, match="choose another --out"):
        next(run_comparison(comparison({"lora": LORA}), tmp_path, place=place))
    assert place.orders == []


def test_a_target_that_matches_nothing_stops_before_anything_is_written(comparison, folder, place):
    arms = {"lora": LORA, "odd": {"adapter": {"targets": ["to_nowhere"]}}}
    with pytest.raises(RasenganError, match="arms.odd: adapter.targets: 'to_nowhere'"):
        run(comparison(arms), folder, place)
    assert not folder.root.exists()


def test_an_engine_that_an_arm_cannot_have_stops_before_anything_is_written(
    comparison, folder, place
):
    dora = {"adapter": {"decompose": True}, "engine": {"cache_text_kv": True}}
    with pytest.raises(RasenganError, match="arms.dora: engine.cache_text_kv = true: DoRA"):
        run(comparison({"lora": LORA, "dora": dora}), folder, place)
    assert not folder.root.exists()


def test_an_optimizer_that_the_machine_lacks_stops_before_anything_is_written(
    comparison, folder, place
):
    arms = {"lora": LORA, "paged": {"training": {"optimizer": "paged_adamw8bit"}}}
    with pytest.raises(RasenganError, match="arms.paged: training.optimizer = 'paged_adamw8bit'"):
        run(comparison(arms), folder, place)
    assert not folder.root.exists()


def test_a_matched_design_whose_arms_train_unequally_stops_before_anything(
    comparison, folder, place
):
    arms = {"lora": LORA, "large": {"adapter": {"rank": 9}}}
    with pytest.raises(RasenganError, match="design = .matched."):
        run(comparison(arms, design="matched"), folder, place)
    assert not folder.root.exists()


def test_a_device_is_measured_once_however_often_the_comparison_goes_on(
    comparison, folder, finished_lora, place
):
    probe = read(folder).probe
    run(comparison({"lora": LORA}, seeds=[0, 1]), folder, place)
    assert read(folder).probe == probe


def test_another_device_is_measured_anew(comparison, folder, finished_lora, place):
    facts = json.loads(folder.prepared_file.read_text())
    facts["probe"]["device_name"] = "another"
    folder.prepared_file.write_text(json.dumps(facts))
    run(comparison({"lora": LORA}), folder, place)
    assert read(folder).probe.device_name != "another"


def test_an_encoder_that_cannot_be_had_leaves_its_columns_out_and_says_so(
    comparison, folder, place, tmp_path
):
    scoring = {"encoders": ["dino", "reader"], "dino": str(tmp_path / "absent")}
    run(comparison({"lora": LORA}, scoring=scoring), folder, place)
    result = read(folder)
    dino, reader = result.encoders
    assert "no such folder" in dino.absent
    assert reader.absent is None
    assert any(note.startswith("dino: its columns are left out") for note in result.notes)
    assert {m.key for m in result.measures} & {"cmmd_dino", "cmmd_reader"} == {"cmmd_reader"}


def test_a_damaged_features_file_is_named_with_its_remedy(comparison, folder, finished_lora, place):
    folder.drawn("base").features_file("reader").write_bytes(b"cut")
    with pytest.raises(OutputError, match="remove .*drawn/base to have it made anew"):
        run(comparison({"lora": LORA}), folder, place)
    shutil.rmtree(folder.drawn("base").path)
    run(comparison({"lora": LORA}), folder, place)
    assert read(folder).status == "finished"
