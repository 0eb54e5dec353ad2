import torch

from rasengan_xl.sdxl.draws import (
    draw_noise,
    keyed_seed,
    sample_order,
    stratified_timesteps,
)


def test_a_key_decides_the_draw_and_global_chance_does_not():
    torch.manual_seed(1)
    one = draw_noise((4, 8, 8), "noise", 0, 1, "a")
    torch.manual_seed(2)
    assert torch.equal(draw_noise((4, 8, 8), "noise", 0, 1, "a"), one)


def test_every_part_of_a_key_matters():
    keys = [("noise", 0, 1), ("noise", 1, 1), ("noise", 0, 2), ("order", 0, 1), ("noise", 0, 1, 1)]
    assert len({keyed_seed(*key) for key in keys}) == len(keys)


def test_parts_of_a_key_do_not_run_together():
    assert keyed_seed("a", 1, 23) != keyed_seed("a", 12, 3)


def test_each_stratum_of_the_schedule_is_drawn_once_a_step():
    timesteps = stratified_timesteps(0, 1, 10, 1000)
    assert sorted((timesteps // 100).tolist()) == list(range(10))
    assert not torch.equal(timesteps, stratified_timesteps(0, 2, 10, 1000))


def test_stratified_timesteps_are_uniform_over_many_steps():
    drawn = torch.cat([stratified_timesteps(0, step, 3, 1000) for step in range(700)])
    assert drawn.min() >= 0
    assert drawn.max() < 1000
    assert abs(drawn.float().mean() - 499.5) < 5


def test_an_epoch_visits_every_picture_once():
    assert sorted(sample_order(0, 0, 50)) == list(range(50))
    assert sample_order(0, 0, 50) != sample_order(0, 1, 50)
