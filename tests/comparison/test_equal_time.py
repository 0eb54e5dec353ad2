import pytest

from rasengan_xl.comparison.equal_time import RunCourse, stand_at_equal_time
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.records import CheckpointLoss, StepRecord


@pytest.fixture
def course(tmp_path):
    """Write a run whose steps take so many seconds each, and that was measured at some steps."""
    made = iter(range(100))

    def build(seconds, steps, losses):
        run = RunFolder(tmp_path / str(next(made)))
        run.start(RunSettings())
        for step in range(1, steps + 1):
            run.append(
                StepRecord(
                    step=step,
                    loss=0.1,
                    gradient_norm=1.0,
                    learning_rate=1e-4,
                    seconds=seconds,
                    idle_seconds=0.0,
                    peak_memory_gib=1.0,
                )
            )
        for step, loss in losses.items():
            run.append_loss(CheckpointLoss(step=step, loss=loss, standard_error=0.01, n=32))
        return RunCourse(run)

    return build


def test_a_loss_between_two_checkpoints_is_interpolated_in_time(course):
    run = course(0.5, 10, {4: 0.4, 8: 0.2})
    assert run.seconds == pytest.approx(5.0)
    assert run.loss_at(2.0) == pytest.approx(0.4)
    assert run.loss_at(3.0) == pytest.approx(0.3)
    assert run.loss_at(5.0) == pytest.approx(0.2)
    assert run.loss_at(1.9) is None, "before the first checkpoint nothing is known"


def test_every_arm_is_stopped_when_the_fastest_is_done(course):
    fast, slow = course(0.5, 10, {5: 0.5, 10: 0.3}), course(1.0, 10, {2: 0.6, 10: 0.2})
    stood = stand_at_equal_time({"fast": {0: fast}, "slow": {0: slow}})
    assert stood.seconds == pytest.approx(5.0)
    assert (stood.arms["fast"].steps, stood.arms["slow"].steps) == (10, 5)
    assert stood.arms["fast"].loss == pytest.approx(0.3)
    assert stood.arms["slow"].loss == pytest.approx(0.45)
    assert stood.arms["slow"].low is None, "one seed has no spread"


def test_over_several_seeds_there_is_an_interval(course):
    fast = {seed: course(0.5, 10, {10: 0.3 + 0.01 * seed}) for seed in range(3)}
    slow = {seed: course(1.0, 10, {5: 0.4 + 0.01 * seed, 10: 0.2}) for seed in range(3)}
    stood = stand_at_equal_time({"fast": fast, "slow": slow}).arms["slow"]
    assert stood.low < stood.loss < stood.high
    assert (stood.seeds, stood.n) == (3, 32)


def test_only_seeds_that_every_arm_finished_count(course):
    fast = {seed: course(0.5, 10, {10: 0.3}) for seed in (0, 1)}
    slow = {1: course(1.0, 10, {5: 0.4, 10: 0.2}), 2: course(9.0, 10, {5: 0.9, 10: 0.9})}
    stood = stand_at_equal_time({"fast": fast, "slow": slow, "never": {}})
    assert stood.seconds == pytest.approx(5.0)
    assert [arm.seeds for arm in stood.arms.values()] == [1, 1]
    assert stood.arms["slow"].loss == pytest.approx(0.4)
    assert "in fewer bits for a quantized arm" in stood.note


def test_an_arm_without_a_checkpoint_for_each_seed_is_left_out(course):
    fast = {seed: course(0.5, 10, {10: 0.3}) for seed in (0, 1)}
    slow = {0: course(1.0, 10, {5: 0.4, 10: 0.2}), 1: course(1.0, 10, {8: 0.4, 10: 0.2})}
    assert set(stand_at_equal_time({"fast": fast, "slow": slow}).arms) == {"fast"}


def test_arms_that_share_no_seed_are_not_set_beside_each_other(course):
    runs = {"a": {0: course(0.5, 4, {4: 0.1})}, "b": {1: course(0.5, 4, {4: 0.1})}}
    assert stand_at_equal_time(runs) is None


def test_one_arm_alone_is_not_set_beside_anything(course):
    assert stand_at_equal_time({"only": {0: course(0.5, 4, {4: 0.1})}}) is None
