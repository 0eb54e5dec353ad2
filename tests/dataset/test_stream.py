from dataclasses import replace

import pytest
import torch

from rasengan_xl.config.recipe import validate_run
from rasengan_xl.dataset.encoded import EncodedCrop, EncodedPicture, EncodedPictures
from rasengan_xl.dataset.stream import build_stream
from rasengan_xl.ranks import ALONE, Ranks
from rasengan_xl.sdxl.prompts import PromptStates


class Shelf(dict):
    """Entries in memory."""

    def read(self, key):
        return self[key]


def make_pictures(count=10, crops=2, wordings=1, sizes=((64, 64),)):
    """Pictures whose mean latent is their own number."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    latents, prompts, pictures = Shelf(), Shelf(), []
    for row in range(count):
        height, width = sizes[row % len(sizes)]
        for crop in range(crops):
            mean = torch.full((4, height // 8, width // 8), float(row))
            latents[f"{row} {crop}"] = {"mean": mean, "deviation": torch.zeros_like(mean)}
        for wording in range(wordings):
            prompts[f"{row} {wording}"] = {"states": draw(77, 16), "pooled": draw(8)}
        numbers = [(row, crop, 0, 0, height, width) for crop in range(crops)]
        pictures.append(
            EncodedPicture(
                name=f"picture {row}",
                digest=f"digest {row}",
                crops=tuple(EncodedCrop(f"{row} {crop}", n) for crop, n in enumerate(numbers)),
                wordings=tuple(f"{row} {wording}" for wording in range(wordings)),
            )
        )
    return EncodedPictures(
        pictures=pictures,
        latents=latents,
        prompts=prompts,
        null_prompt=PromptStates(states=torch.full((1, 77, 16), -1.0), pooled=torch.zeros(1, 8)),
        scaling_factor=0.5,
    )


def make_stream(pictures=None, ranks=ALONE, **tables):
    training = {"batch_size": 2, "accumulation": 1, **tables.pop("training", {})}
    settings = validate_run({**tables, "training": training}, "test")
    return build_stream(pictures or make_pictures(), settings, 1000, ranks)


def batches_of(stream, steps, ranks=ALONE):
    return [batch for step in steps for batch in stream.part(step, ranks).batches]


def rows_seen(stream, steps):
    """The row of each picture that was shown, read from its latents."""
    means = [batch.latents.mean(dim=(1, 2, 3)) / 0.5 for batch in batches_of(stream, steps)]
    return [round(mean) for mean in torch.cat(means).tolist()]


def traces_of(stream, steps):
    parts = (stream.part(step, ALONE) for step in steps)
    return [picture.trace for part in parts for batch in part.shown for picture in batch]


def test_an_epoch_shows_every_picture_once():
    assert sorted(rows_seen(make_stream(), range(1, 6))) == list(range(10))


def test_a_step_is_the_same_whether_or_not_others_came_before_it():
    stream = make_stream()
    batches_of(stream, range(1, 4))
    after_others, alone = stream.part(4, ALONE), make_stream().part(4, ALONE)
    assert after_others.shown == alone.shown
    assert torch.equal(after_others.batches[0].noise, alone.batches[0].noise)


def test_a_caption_stays_with_its_picture():
    pictures = make_pictures()
    for batch in batches_of(make_stream(pictures), range(1, 6)):
        for latent, states, pooled in zip(
            batch.latents, batch.prompts, batch.pooled_prompts, strict=True
        ):
            entry = pictures.prompts[f"{round(latent.mean().item() / 0.5)} 0"]
            assert torch.equal(states, entry["states"])
            assert torch.equal(pooled, entry["pooled"])


def test_caption_dropout_gives_both_encoders_and_the_pooled_prompt_the_null_caption():
    emptied = []
    for batch in batches_of(make_stream(caption={"dropout": 0.5}), range(1, 51)):
        without_states = (batch.prompts == -1).all(dim=(1, 2))
        assert torch.equal(without_states, (batch.pooled_prompts == 0).all(dim=1))
        emptied += without_states.tolist()
    assert 0.35 < sum(emptied) / len(emptied) < 0.65


def test_all_crops_and_wordings_of_a_picture_are_drawn_each_crop_with_its_own_size_numbers():
    pictures = make_pictures(count=2, crops=2, wordings=3)
    crops, wordings = set(), set()
    for batch in batches_of(make_stream(pictures), range(1, 40)):
        crops |= {tuple(numbers.tolist()) for numbers in batch.size_numbers}
        wordings |= {pooled[0].item() for pooled in batch.pooled_prompts}
    assert crops == {c.size_numbers for p in pictures.pictures for c in p.crops}
    assert wordings == {entry["pooled"][0].item() for entry in pictures.prompts.values()}


def test_batches_are_of_one_size_and_together_make_up_the_step():
    pictures = make_pictures(count=9, sizes=((64, 64), (64, 128), (128, 64)))
    stream = make_stream(pictures, training={"batch_size": 4, "accumulation": 2})
    for step in range(1, 8):
        part = stream.part(step, ALONE)
        slots = [picture.slot for batch in part.shown for picture in batch]
        assert sorted(slots) == list(range(8))
        assert [len(b.timesteps) for b in part.batches] == [len(shown) for shown in part.shown]


@pytest.mark.parametrize(
    "training", [{"batch_size": 4}, {"accumulation": 4, "batch_size": 1}, {"accumulation": 2}]
)
def test_how_a_step_is_cut_changes_nothing_that_is_shown(training):
    pictures = make_pictures(sizes=((64, 64), (64, 128)))
    expected = make_stream(pictures, training={"batch_size": 4}).part(3, ALONE)
    part = make_stream(pictures, training=training).part(3, ALONE)

    def shown(part):
        return sorted((p.slot, p.trace) for batch in part.shown for p in batch)

    assert shown(part) == shown(expected)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_processes_share_the_step_that_one_would_take_alone(accumulation):
    alone = make_stream(training={"batch_size": 2, "accumulation": 2 * accumulation})
    expected = {p.slot: p for batch in alone.part(2, ALONE).shown for p in batch}
    together = {}
    for rank in range(2):
        ranks = Ranks(rank=rank, count=2)
        stream = make_stream(ranks=ranks, training={"accumulation": accumulation})
        for batch in stream.part(2, ranks).shown:
            assert not together.keys() & {picture.slot for picture in batch}
            together |= {picture.slot: picture for picture in batch}
    assert together == expected


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"caption": {"dropout": 0.9}},
        {"objective": {"noise_offset": 0.1}},
        {"objective": {"timestep_sampling": "uniform"}},
        {"objective": {"timestep_range": [0.0, 0.5]}},
    ],
)
def test_the_trace_changes_with_what_is_shown(change):
    steps = range(1, 4)
    assert traces_of(make_stream(), steps) == traces_of(make_stream(), steps)
    assert traces_of(make_stream(), steps) != traces_of(make_stream(**change), steps)


def test_the_latents_jitter_within_the_posterior():
    pictures = make_pictures()
    wide = {k: {**e, "deviation": torch.ones_like(e["mean"])} for k, e in pictures.latents.items()}
    drawn = batches_of(make_stream(replace(pictures, latents=Shelf(wide))), range(1, 6))
    sure = batches_of(make_stream(pictures), range(1, 6))
    jitter = torch.cat([(d.latents - s.latents) / 0.5 for d, s in zip(drawn, sure, strict=True)])
    assert abs(jitter.mean()) < 0.1
    assert 0.9 < jitter.std() < 1.1


def test_offset_noise_shifts_whole_channels():
    plain = batches_of(make_stream(), range(1, 20))
    shifted = batches_of(make_stream(objective={"noise_offset": 0.5}), range(1, 20))
    pairs = zip(shifted, plain, strict=True)
    shift = torch.cat([s.noise - p.noise for s, p in pairs])
    assert torch.allclose(shift, shift.mean(dim=(2, 3), keepdim=True).expand_as(shift), atol=1e-5)
    assert 0.4 < shift.mean(dim=(2, 3)).std() < 0.6


def test_timesteps_keep_to_the_part_of_the_schedule_that_is_trained_on():
    stream = make_stream(objective={"timestep_range": [0.25, 0.5]})
    timesteps = torch.cat([b.timesteps for b in batches_of(stream, range(1, 200))])
    assert timesteps.min() >= 250
    assert timesteps.max() < 500
    assert timesteps.max() - timesteps.min() > 200
