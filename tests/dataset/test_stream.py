import pytest
import torch

from rasengan_xl.config.training_settings import TrainingSettings
from rasengan_xl.dataset.encoded import EncodedPictures
from rasengan_xl.dataset.stream import TrainingStream
from rasengan_xl.dataset.trace import TraceHash


def make_pictures(count=10, variants=2):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    return EncodedPictures(
        digests=[f"digest {i}" for i in range(count)],
        means=torch.arange(count).float().view(-1, 1, 1, 1, 1).expand(count, variants, 4, 8, 8),
        deviations=torch.zeros(count, variants, 4, 8, 8),
        size_numbers=torch.randint(0, 99, (count, variants, 6), generator=generator),
        captions=torch.arange(count),
        prompts=draw(count, 77, 16),
        pooled_prompts=draw(count, 8),
        scaling_factor=0.5,
    )


def make_stream(seed=0, pictures=None, **settings):
    return TrainingStream(
        pictures=pictures or make_pictures(),
        settings=TrainingSettings(batch_size=2, accumulation=1, **settings),
        seed=seed,
        timesteps=1000,
    )


def rows_seen(stream, steps):
    """The row of each picture that was shown, read from its latents."""
    rows = []
    for step in steps:
        for batch in stream.micro_batches(step, TraceHash()):
            rows += (batch.latents[:, 0, 0, 0] / 0.5).long().tolist()
    return rows


def test_an_epoch_shows_every_picture_once_and_the_next_in_another_order():
    first, second = rows_seen(make_stream(), range(1, 6)), rows_seen(make_stream(), range(6, 11))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_a_step_is_the_same_whether_or_not_others_came_before_it():
    stream = make_stream()
    rows_seen(stream, range(1, 4))
    after_others = next(iter(stream.micro_batches(4, TraceHash())))
    alone = next(iter(make_stream().micro_batches(4, TraceHash())))
    assert torch.equal(after_others.noise, alone.noise)
    assert torch.equal(after_others.latents, alone.latents)


def test_a_caption_stays_with_its_picture():
    pictures = make_pictures()
    for batch in make_stream(pictures=pictures).micro_batches(1, TraceHash()):
        rows = (batch.latents[:, 0, 0, 0] / 0.5).long()
        assert torch.equal(batch.prompts, pictures.prompts[rows])
        assert torch.equal(batch.pooled_prompts, pictures.pooled_prompts[rows])


def test_caption_dropout_empties_states_and_pooled_prompt_together():
    emptied = []
    stream = make_stream(caption_dropout=0.5)
    for step in range(1, 51):
        for batch in stream.micro_batches(step, TraceHash()):
            without_states = (batch.prompts == 0).all(dim=(1, 2))
            assert torch.equal(without_states, (batch.pooled_prompts == 0).all(dim=1))
            emptied += without_states.tolist()
    assert 0.35 < sum(emptied) / len(emptied) < 0.65


def test_all_variants_of_a_picture_are_drawn_with_their_own_size_numbers():
    pictures = make_pictures(count=2, variants=2)
    seen = set()
    stream = make_stream(pictures=pictures)
    for step in range(1, 20):
        for batch in stream.micro_batches(step, TraceHash()):
            seen |= {tuple(numbers.tolist()) for numbers in batch.size_numbers}
    assert seen == {tuple(n.tolist()) for n in pictures.size_numbers.flatten(0, 1)}


@pytest.mark.parametrize("change", [{"seed": 1}, {"caption_dropout": 0.9}])
def test_the_trace_changes_with_what_is_shown(change):
    traces = []
    for stream in (make_stream(), make_stream(), make_stream(**change)):
        trace = TraceHash()
        for step in (1, 2):
            list(stream.micro_batches(step, trace))
        traces.append(trace.state)
    assert traces[0] == traces[1] != traces[2]


def test_the_latents_jitter_within_the_posterior():
    pictures = make_pictures()
    wide = EncodedPictures(
        **{name: getattr(pictures, name) for name in pictures.__slots__ if name != "deviations"},
        deviations=torch.ones_like(pictures.deviations),
    )
    drawn = next(iter(make_stream(pictures=wide).micro_batches(1, TraceHash()))).latents
    sure = next(iter(make_stream(pictures=pictures).micro_batches(1, TraceHash()))).latents
    jitter = (drawn - sure) / 0.5
    assert abs(jitter.mean()) < 0.2
    assert 0.8 < jitter.std() < 1.2
