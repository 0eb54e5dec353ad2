import pytest
import torch
from diffusers import UNet2DConditionModel

from rasengan_xl.sdxl.components import NoiseSchedule
from rasengan_xl.sdxl.objective import LatentBatch, denoising_losses

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
    losses = denoising_losses(Oracle(answer), batch, schedule)
    torch.testing.assert_close(losses, torch.zeros(2))


def test_pictures_are_noised_as_the_ddpm_scheduler_does():
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    schedule = NoiseSchedule(alpha_bars=scheduler.alphas_cumprod, prediction_type="epsilon")
    batch = make_batch()
    oracle = Oracle(batch.noise)
    denoising_losses(oracle, batch, schedule)
    expected = scheduler.add_noise(batch.latents, batch.noise, batch.timesteps)
    torch.testing.assert_close(oracle.seen["noised"], expected)


def test_size_numbers_reach_the_unet_as_integers():
    oracle = Oracle(torch.zeros(2, 4, 8, 8))
    schedule = NoiseSchedule(alpha_bars=ALPHA_BARS, prediction_type="epsilon")
    denoising_losses(oracle, make_batch(), schedule)
    assert oracle.seen["time_ids"].dtype == torch.int64
    assert oracle.seen["time_ids"][0, 0] == 1023
