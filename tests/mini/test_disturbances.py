import torch

from rasengan_xl.mini.pretrain import disturbances
from rasengan_xl.mini.pretrain.disturbances import disturb


def pictures(count=6):
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def test_the_same_chance_disturbs_the_same_way():
    one, again = (disturb(pictures(), generator()) for _ in range(2))
    assert torch.equal(one, again)
    assert not torch.equal(one, disturb(pictures(), generator(2)))


def test_every_picture_is_disturbed_in_its_own_way():
    copies = pictures(1).expand(6, 3, 16, 16)
    disturbed = disturb(copies, generator())
    assert disturbed.abs().max() <= 1
    for i in range(6):
        assert not torch.allclose(disturbed[i], copies[i], atol=1e-3)
        assert i == 0 or not torch.allclose(disturbed[i], disturbed[0], atol=1e-3)


def test_an_even_colour_stays_within_the_stated_bounds():
    even = torch.full((32, 3, 16, 16), 0.5)
    means = disturb(even, generator()).mean(dim=(2, 3))
    largest = 0.5 * disturbances.LARGEST_GAIN + disturbances.LARGEST_OFFSET
    assert (means - 0.5).abs().max() <= largest + 0.01
    assert (means - 0.5).abs().max() > largest / 3


def test_a_picture_moves_by_no_more_than_the_largest_shift(monkeypatch):
    for name in ("LARGEST_GAIN", "LARGEST_OFFSET", "LARGEST_GRAIN"):
        monkeypatch.setattr(disturbances, name, 0.0)
    dots = torch.full((40, 3, 17, 17), -1.0)
    dots[:, :, 8, 8] = 1.0
    peaks = disturb(dots, generator())[:, 0].flatten(1).argmax(dim=1)
    # The blur is even over 3 x 3 pixels at most, so the peak stays the dot or is beside it.
    shifts = torch.stack([peaks // 17 - 8, peaks % 17 - 8])
    assert shifts.abs().max() <= disturbances.LARGEST_SHIFT + 1
    assert len(shifts.T.unique(dim=0)) > 5
