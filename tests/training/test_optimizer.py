import pytest

from rasengan_xl.config.training_settings import TrainingSettings
from rasengan_xl.training.optimizer import learning_rate_at


def schedule(**changes):
    settings = TrainingSettings(
        **{"steps": 100, "warmup_steps": 10, "learning_rate": 1.0, **changes}
    )
    return [learning_rate_at(step, settings) for step in range(1, settings.steps + 1)]


def test_warm_up_climbs_linearly_to_the_peak():
    assert schedule()[:10] == pytest.approx([0.1 * i for i in range(1, 11)])


@pytest.mark.parametrize("name", ["cosine", "linear", "constant"])
def test_the_peak_is_held_at_the_end_of_warm_up(name):
    assert schedule(schedule=name)[10] == 1.0


def test_cosine_and_linear_end_just_above_zero_and_constant_stays():
    assert 0 < schedule(schedule="cosine")[-1] < 0.001
    assert schedule(schedule="linear")[-1] == pytest.approx(1 / 90)
    assert schedule(schedule="constant")[-1] == 1.0


def test_cosine_is_half_way_down_in_the_middle():
    assert schedule(schedule="cosine")[55] == pytest.approx(0.5)


@pytest.mark.parametrize("accumulation", [1, 4])
def test_accumulation_does_not_move_the_schedule(accumulation):
    assert schedule(accumulation=accumulation) == schedule()


def test_without_warm_up_the_first_step_has_the_peak():
    assert schedule(warmup_steps=0)[0] == 1.0
