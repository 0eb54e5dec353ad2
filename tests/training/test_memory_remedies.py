import pytest

from rasengan_xl.config.recipe import lay_over
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.training.memory_remedies import (
    Situation,
    WeightCounts,
    activations_gib,
    cheapest_remedies,
)

SDXL = WeightCounts(unet=2_567_463_684, linear=2_232_647_680, trained=23_224_320)


def situation(phase="train", used_gib=15.0, *, changes=None, **more):
    tree = RunSettings().model_dump(mode="json")
    lay_over(tree, changes or {})
    facts = {"counts": SDXL, "on_cuda": True, "bytes_per_weight": 2, **more}
    settings = RunSettings.model_validate(tree)
    return Situation(phase=phase, settings=settings, used_gib=used_gib, **facts)


def actions(*arguments, most=9, **changes):
    return [r.action for r in cheapest_remedies(situation(*arguments, **changes), most)]


def test_three_remedies_come_cheapest_first_with_what_they_save():
    first, second, third = cheapest_remedies(situation())
    # 15 GiB less 4.782 of weights and 0.346 of adapter, gradient and moments
    assert activations_gib(situation()) == pytest.approx(9.872, abs=0.001)
    assert first.action == "--set training.batch_size=1 --set training.accumulation=4"
    assert first.saves_gib == pytest.approx(9.872 / 2, abs=0.001)
    assert first.price == "same result"
    assert second.action == "--set engine.memory=recompute-all"
    assert second.saves_gib == pytest.approx(9.872 * 0.92, abs=0.001)
    assert third.action == "--set adapter.base_precision=nf4"
    assert third.saves_gib == pytest.approx(3.086, abs=0.001)


def test_what_is_in_use_already_is_not_offered():
    spent = {
        "training": {
            "batch_size": 1,
            "gradient_checkpointing": True,
            "optimizer": "paged_adamw8bit",
        },
        "adapter": {"base_precision": "nf4", "rank": 1},
        "dataset": {"resolution": 64},
    }
    assert actions(changes=spent) == []


def test_nf4_and_eight_bit_moments_leave_more_to_activations():
    nf4 = {"adapter": {"base_precision": "nf4"}}
    gained = activations_gib(situation(changes=nf4)) - activations_gib(situation())
    assert gained == pytest.approx(3.086, abs=0.001)
    eight_bit = {"training": {"optimizer": "adamw8bit"}}
    gained = activations_gib(situation(changes=eight_bit)) - activations_gib(situation())
    assert gained == pytest.approx(23_224_320 * 6 / 2**30, abs=0.0001)


def test_what_saves_next_to_nothing_is_no_remedy_and_what_saves_much_is():
    assert "--set training.optimizer=adamw8bit" not in actions()
    large = WeightCounts(unet=SDXL.unet, linear=SDXL.linear, trained=83_722_240 * 4)
    assert "--set training.optimizer=adamw8bit" in actions(counts=large)


def test_float32_is_halved_before_anything_else_is_given_up():
    first, second, *_ = cheapest_remedies(situation(bytes_per_weight=4, used_gib=30.0))
    assert first.action.startswith("--set training.batch_size=1")
    assert second.action == "--set compute.precision=auto"
    activations = activations_gib(situation(bytes_per_weight=4, used_gib=30.0))
    assert second.saves_gib == pytest.approx(4.782 + activations / 2, abs=0.001)


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "expected"),
    [(6, 1, "3 --set training.accumulation=2"), (3, 2, "1 --set training.accumulation=6")],
)
def test_a_batch_is_cut_so_that_a_step_is_over_as_many_pictures(batch_size, accumulation, expected):
    training = {"batch_size": batch_size, "accumulation": accumulation}
    (first, *_) = actions(changes={"training": training})
    assert first == f"--set training.batch_size={expected}"


def test_other_programs_and_broken_up_memory_come_first_for_they_cost_nothing():
    first, second, _ = cheapest_remedies(situation(others_gib=3.0, reserved_unused_gib=2.0))
    assert (first.action, first.saves_gib) == ("end the other programs on this GPU", 3.0)
    assert "expandable_segments" in second.action


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        ("encode pictures", ["--set dataset.resolution=384"]),
        ("load the UNet", ["--set adapter.base_precision=nf4"]),
        ("encode captions", []),
    ],
)
def test_each_phase_has_remedies_of_its_own(phase, expected):
    assert actions(phase) == expected


def test_the_held_out_loss_is_measured_over_fewer_timesteps():
    assert actions("held-out loss")[0] == "--set evaluation.timesteps=5"
