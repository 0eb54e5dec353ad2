import math

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import tensor

from rasengan_xl.config.training_settings import ObjectiveSettings
from rasengan_xl.sdxl.noise_schedule import NoiseSchedule, rescale_to_zero_terminal_snr
from rasengan_xl.sdxl.objective import (
    LatentBatch,
    build_objective,
    denoising_losses,
    plain_objective,
)

ALPHA_BARS = torch.linspace(0.99, 0.01, 1000)


def make_batch():
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    return LatentBatch(
        latents=draw(2, 4, 8, 8),
        noise=draw(2, 4, 8, 8),
        timesteps=torch.tensor([10, 900]),
        prompts=draw(2, 77, 128),
        pooled_prompts=draw(2, 64),
        size_numbers=torch.tensor([[1023, 1023, 0, 0, 32, 32]] * 2),
    )


class Oracle(UNet2DConditionModel):
    """Stands where the UNet does and answers with what it is given."""

    dtype = torch.float32

    def __init__(self, answer):
        torch.nn.Module.__init__(self)
        self.answer = answer
        self.seen = {}

    def forward(self, noised, timesteps, prompts, added_cond_kwargs):
        self.seen = {"noised": noised, **added_cond_kwargs}
        return type("Output", (), {"sample": self.answer})


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_right_prediction_has_no_loss(prediction_type):
    batch = make_batch()
    alpha_bar = ALPHA_BARS[batch.timesteps].view(-1, 1, 1, 1)
    velocity = alpha_bar.sqrt() * batch.noise - (1 - alpha_bar).sqrt() * batch.latents
    answer = batch.noise if prediction_type == "epsilon" else velocity
    schedule = NoiseSchedule(alpha_bars=ALPHA_BARS, prediction_type=prediction_type)
    losses = denoising_losses(Oracle(answer), batch, plain_objective(schedule))
    torch.testing.assert_close(losses, torch.zeros(2))


def test_pictures_are_noised_as_the_ddpm_scheduler_does():
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    schedule = NoiseSchedule(alpha_bars=scheduler.alphas_cumprod, prediction_type="epsilon")
    batch = make_batch()
    oracle = Oracle(batch.noise)
    denoising_losses(oracle, batch, plain_objective(schedule))
    expected = scheduler.add_noise(batch.latents, batch.noise, batch.timesteps)
    torch.testing.assert_close(oracle.seen["noised"], expected)


def test_size_numbers_reach_the_unet_as_integers():
    oracle = Oracle(torch.zeros(2, 4, 8, 8))
    schedule = NoiseSchedule(alpha_bars=ALPHA_BARS, prediction_type="epsilon")
    denoising_losses(oracle, make_batch(), plain_objective(schedule))
    assert oracle.seen["time_ids"].dtype == torch.int64
    assert oracle.seen["time_ids"][0, 0] == 1023


LATENT, NOISE, ANSWER = 0.7, -1.3, 0.4
BETAS = (0.1, 0.2, 0.5)


def alpha_bars_of(betas):
    return tensor([math.prod(1 - beta for beta in betas[: i + 1]) for i in range(len(betas))])


def losses_of_constants(prediction_type, alpha_bars, answers=(ANSWER,) * 3, **settings):
    """Take the loss of one picture at every timestep, all values of a picture being alike."""
    shape = (len(alpha_bars), 4, 2, 2)
    batch = LatentBatch(
        latents=torch.full(shape, LATENT),
        noise=torch.full(shape, NOISE),
        timesteps=torch.arange(len(alpha_bars)),
        prompts=torch.zeros(len(alpha_bars), 77, 8),
        pooled_prompts=torch.zeros(len(alpha_bars), 8),
        size_numbers=torch.zeros(len(alpha_bars), 6, dtype=torch.int64),
    )
    schedule = NoiseSchedule(alpha_bars=alpha_bars, prediction_type=prediction_type)
    objective = build_objective(schedule, ObjectiveSettings(**settings))
    oracle = Oracle(tensor(answers).view(-1, 1, 1, 1).expand(shape))
    losses = denoising_losses(oracle, batch, objective)
    return losses.tolist(), oracle.seen["noised"][:, 0, 0, 0].tolist()


def test_velocity_loss_by_hand():
    # Betas .1 .2 .5 leave alpha-bars .9 .72 .36 of the variance to the picture.
    losses, noised = losses_of_constants("v_prediction", alpha_bars_of(BETAS))
    for i, share in enumerate((0.9, 0.72, 0.36)):
        velocity = math.sqrt(share) * NOISE - math.sqrt(1 - share) * LATENT
        assert losses[i] == pytest.approx((ANSWER - velocity) ** 2, rel=1e-5)
        assert noised[i] == pytest.approx(
            math.sqrt(share) * LATENT + math.sqrt(1 - share) * NOISE, rel=1e-5
        )


def test_zero_terminal_snr_loss_by_hand():
    # Algorithm 1 on the roots of .9 .72 .36: less the last, times the first over what is left.
    first, middle, last = math.sqrt(0.9), math.sqrt(0.72), 0.6
    signals = (first, (middle - last) * first / (first - last), 0.0)
    rescaled = rescale_to_zero_terminal_snr(alpha_bars_of(BETAS))
    losses, noised = losses_of_constants("v_prediction", rescaled)
    for i, signal in enumerate(signals):
        spread = math.sqrt(1 - signal**2)
        velocity = signal * NOISE - spread * LATENT
        assert losses[i] == pytest.approx((ANSWER - velocity) ** 2, rel=1e-5)
        assert noised[i] == pytest.approx(signal * LATENT + spread * NOISE, rel=1e-5)
    assert noised[2] == pytest.approx(NOISE)  # at the end the UNet sees noise alone ...
    assert losses[2] == pytest.approx((ANSWER + LATENT) ** 2)  # ... and is asked for the picture


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_min_snr_weights_by_hand(prediction_type):
    # SNR is .9 / .1 = 9, .72 / .28 = 2.571 and .36 / .64 = .5625; gamma cuts the first at 5.
    plain, _ = losses_of_constants(prediction_type, alpha_bars_of(BETAS))
    weighted, _ = losses_of_constants(prediction_type, alpha_bars_of(BETAS), min_snr_gamma=5.0)
    expected = {
        "epsilon": (5 / 9, 1, 1),
        "v_prediction": (5 / 10, (18 / 7) / (25 / 7), 0.5625 / 1.5625),
    }[prediction_type]
    for i in range(3):
        assert weighted[i] == pytest.approx(expected[i] * plain[i], rel=1e-5)


def test_min_snr_sees_the_schedule_after_the_rescale_and_divides_by_no_zero():
    rescaled = rescale_to_zero_terminal_snr(alpha_bars_of(BETAS))
    schedule = NoiseSchedule(alpha_bars=rescaled, prediction_type="v_prediction")
    weights = build_objective(schedule, ObjectiveSettings(min_snr_gamma=5.0)).weights
    share = rescaled[1].item()
    snr = share / (1 - share)
    assert weights[1].item() == pytest.approx(snr / (snr + 1), rel=1e-5)
    assert weights[2] == 0
    noise = NoiseSchedule(alpha_bars=rescaled, prediction_type="epsilon")
    assert build_objective(noise, ObjectiveSettings(min_snr_gamma=5.0)).weights[2] == 1


def test_huber_is_the_square_up_to_delta_and_linear_beyond():
    answers = (NOISE + 0.05, NOISE - 0.1, NOISE + 3.0)
    losses, _ = losses_of_constants("epsilon", alpha_bars_of(BETAS), answers, loss="huber")
    # 0.1 is the default delta; beyond it delta (2 |e| - delta).
    assert losses == pytest.approx([0.05**2, 0.1**2, 0.1 * (2 * 3.0 - 0.1)], rel=1e-4)
    wide, _ = losses_of_constants(
        "epsilon", alpha_bars_of(BETAS), answers, loss="huber", huber_delta=4.0
    )
    assert wide == pytest.approx([0.05**2, 0.1**2, 3.0**2], rel=1e-4)


def test_losses_are_taken_in_float32_whatever_the_unet_computes_in():
    oracle = Oracle(torch.full((2, 4, 8, 8), 1.0, dtype=torch.bfloat16))
    schedule = NoiseSchedule(alpha_bars=ALPHA_BARS, prediction_type="epsilon")
    batch = make_batch()
    losses = denoising_losses(oracle, batch, plain_objective(schedule))
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, (1 - batch.noise).square().mean(dim=(1, 2, 3)))
