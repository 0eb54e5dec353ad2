import pytest
import torch

from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.dataset.encoded import encode_dataset
from rasengan_xl.evaluation.base_losses import name_base_losses, recall_or_measure
from rasengan_xl.evaluation.held_out import (
    build_table,
    measure_losses,
    summarise_losses,
    tabulate_losses,
)
from rasengan_xl.ranks import ALONE
from rasengan_xl.sdxl.components import load_unet
from rasengan_xl.sdxl.compute import choose_compute
from rasengan_xl.sdxl.model_folder import find_model
from rasengan_xl.sdxl.noise_schedule import load_noise_schedule

from ..exhaust import exhaust


@pytest.fixture
def measure(settings):
    chosen = settings()
    model, compute = find_model(chosen.base_model), choose_compute(chosen.compute)
    schedule = load_noise_schedule(model, zero_terminal_snr=None)
    dataset = exhaust(encode_dataset(chosen, model, compute))
    table = build_table(dataset.train, schedule, settings(evaluation={"timesteps": 3}))

    def run(change=0.0, seed=0, ranks=ALONE):
        adapter = attach_adapter(load_unet(model, compute, "full"), chosen.adapter, seed)
        with torch.no_grad():
            for parameter in adapter.parameters.values():
                parameter.add_(change)
        adapted = exhaust(measure_losses(adapter.unet, table, 4, compute, ranks))
        with adapter.disabled():
            base = exhaust(measure_losses(adapter.unet, table, 4, compute, ranks))
        return summarise_losses(tabulate_losses(table, base, adapted))

    return run


def test_a_fresh_adapter_has_the_loss_of_its_base(measure):
    loss = measure()
    assert loss.n == 12
    assert loss.adapted == loss.base
    assert loss.difference == 0
    assert loss.base_standard_error > 0


def test_the_table_is_the_same_for_every_seed_and_adapter(measure):
    one, other = measure(change=0.05, seed=0), measure(change=0.08, seed=1)
    assert one.base == other.base
    assert one.adapted != other.adapted
    assert one.difference == pytest.approx(one.adapted - one.base)
    assert one.difference_standard_error > 0


def test_every_loss_is_kept_by_picture_and_timestep(table_of, settings):
    table, unet, _, compute = table_of()
    losses = exhaust(measure_losses(unet, table, 2, compute))
    kept = tabulate_losses(table, losses, losses)
    assert [len(row) for row in kept.base] == [3, 3]
    assert kept.digests == [picture.digest for picture in table.pictures.pictures[:2]]
    assert kept.timesteps == [166, 500, 833]


@pytest.fixture
def table_of(settings):
    """Build a table on the pictures to train on, and what it takes to measure on it."""

    def build(**evaluation):
        chosen = settings()
        model, compute = find_model(chosen.base_model), choose_compute(chosen.compute)
        dataset = exhaust(encode_dataset(chosen, model, compute))
        schedule = load_noise_schedule(model, zero_terminal_snr=None)
        changed = settings(evaluation={"timesteps": 3} | evaluation)
        table = build_table(dataset.train, schedule, changed)
        return table, load_unet(model, compute, "full"), model, compute

    return build


def test_the_losses_of_a_base_are_measured_once(table_of):
    table, unet, model, compute = table_of()
    key = name_base_losses(model, "full", table, 2, compute)
    calls = []

    def measure():
        calls.append(1)
        return measure_losses(unet, table, 2, compute)

    first = exhaust(recall_or_measure(key, measure))
    again = exhaust(recall_or_measure(key, measure))
    assert first == again
    assert len(calls) == 1


def test_losses_of_a_base_are_named_by_all_that_they_depend_on(table_of):
    table, _, model, compute = table_of()
    other, _, _, _ = table_of(timesteps=4)
    names = {
        name_base_losses(model, "full", table, 2, compute),
        name_base_losses(model, "nf4", table, 2, compute),
        name_base_losses(model, "full", table, 3, compute),
        name_base_losses(model, "full", other, 2, compute),
    }
    assert len(names) == 4
    assert name_base_losses(model, "full", table, 2, compute) in names
