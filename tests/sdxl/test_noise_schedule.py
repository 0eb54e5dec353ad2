import json
import math

import pytest
import torch
from diffusers import EulerDiscreteScheduler
from torch import tensor

from rasengan_xl.errors import ModelError
from rasengan_xl.sdxl.components import load_vae
from rasengan_xl.sdxl.model_folder import ModelFolder
from rasengan_xl.sdxl.noise_schedule import load_noise_schedule, rescale_to_zero_terminal_snr

SDXL = {
    "_class_name": "EulerDiscreteScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
}
V_PREDICTION = {"prediction_type": "v_prediction"}


@pytest.fixture
def model_with(tmp_path):
    def build(**changes):
        config = {**SDXL, **changes}
        config = {name: value for name, value in config.items() if value is not None}
        (tmp_path / "scheduler").mkdir(exist_ok=True)
        (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
        index = {"scheduler": ["diffusers", config["_class_name"]]}
        (tmp_path / "model_index.json").write_text(json.dumps(index))
        return ModelFolder(path=tmp_path, name="test")

    return build


def alpha_bars_by_hand():
    """SDXL's schedule in plain double arithmetic."""
    first, last = math.sqrt(0.00085), math.sqrt(0.012)
    product, shares = 1.0, []
    for step in range(1000):
        product *= 1 - (first + (last - first) * step / 999) ** 2
        shares.append(product)
    return shares


def rescaled_by_hand():
    roots = [math.sqrt(share) for share in alpha_bars_by_hand()]
    return [((r - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2 for r in roots]


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_schedule_is_the_scheduler_s_own(model_with, prediction_type):
    model = model_with(prediction_type=prediction_type)
    schedule = load_noise_schedule(model, zero_terminal_snr=None)
    assert schedule.prediction_type == prediction_type
    torch.testing.assert_close(schedule.alpha_bars, tensor(alpha_bars_by_hand()), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("in_scheduler", "setting"), [(False, True), (True, None), (True, True)], ids=str
)
def test_zero_terminal_snr_is_algorithm_1_whoever_asks_for_it(model_with, in_scheduler, setting):
    model = model_with(**V_PREDICTION, rescale_betas_zero_snr=in_scheduler)
    schedule = load_noise_schedule(model, zero_terminal_snr=setting)
    torch.testing.assert_close(schedule.alpha_bars, tensor(rescaled_by_hand()), rtol=1e-4, atol=0)
    assert schedule.alpha_bars[-1] == 0
    assert schedule.snr[-1] == 0
    assert schedule.alpha_bars.max() <= 1


def test_the_rescaled_schedule_is_diffusers_own_but_for_its_last_entry(model_with):
    schedule = load_noise_schedule(model_with(**V_PREDICTION), zero_terminal_snr=True)
    names = ("beta_schedule", "beta_start", "beta_end")
    sampler = EulerDiscreteScheduler(
        **{name: SDXL[name] for name in names}, rescale_betas_zero_snr=True
    )
    theirs = sampler.alphas_cumprod
    torch.testing.assert_close(schedule.alpha_bars[:-1], theirs[:-1], rtol=1e-3, atol=1e-7)
    assert theirs[-1] == 2**-24


def test_rescaling_twice_changes_nothing():
    once = rescale_to_zero_terminal_snr(tensor(alpha_bars_by_hand()))
    torch.testing.assert_close(rescale_to_zero_terminal_snr(once), once)


def test_zero_terminal_snr_with_epsilon_is_refused(model_with):
    with pytest.raises(ModelError, match=r"^objective\.zero_terminal_snr = true: .*leave the key"):
        load_noise_schedule(model_with(), zero_terminal_snr=True)
    with pytest.raises(ModelError, match="^rescale_betas_zero_snr = true in the scheduler"):
        load_noise_schedule(model_with(rescale_betas_zero_snr=True), zero_terminal_snr=None)


def test_zero_terminal_snr_is_not_taken_from_a_model_that_has_it(model_with):
    model = model_with(**V_PREDICTION, rescale_betas_zero_snr=True)
    with pytest.raises(ModelError, match="was trained with zero terminal SNR"):
        load_noise_schedule(model, zero_terminal_snr=False)
    load_noise_schedule(model_with(**V_PREDICTION), zero_terminal_snr=False)


def test_a_sampler_that_cannot_draw_with_zero_terminal_snr_is_refused_before_training(model_with):
    model = model_with(**V_PREDICTION, _class_name="PNDMScheduler")
    load_noise_schedule(model, zero_terminal_snr=None)
    with pytest.raises(ModelError, match="PNDMScheduler cannot draw with it"):
        load_noise_schedule(model, zero_terminal_snr=True)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"_class_name": "EDMEulerScheduler", "beta_schedule": None}, "EDM or flow matching"),
        (
            {"_class_name": "FlowMatchEulerDiscreteScheduler", "beta_schedule": None},
            "FlowMatchEulerDiscreteScheduler does not add noise by a schedule of betas",
        ),
        ({**V_PREDICTION, "timestep_type": "continuous"}, "EDM or flow matching"),
        (
            {"_class_name": "DPMSolverMultistepScheduler", "use_flow_sigmas": True},
            "EDM or flow matching",
        ),
        ({"prediction_type": "sample"}, "prediction_type is 'sample'"),
        ({"_class_name": "NoSuchScheduler"}, "scheduler cannot be loaded"),
    ],
    ids=["edm", "flow", "continuous", "flow-sigmas", "sample", "unknown"],
)
def test_noise_of_another_kind_is_refused_in_one_line(model_with, changes, reason):
    with pytest.raises(ModelError, match=reason) as caught:
        load_noise_schedule(model_with(**changes), zero_terminal_snr=None)
    assert "\n" not in str(caught.value)


def test_a_vae_that_scales_latents_by_channel_is_refused(tiny_model, tmp_path):
    vae = load_vae(ModelFolder(path=tiny_model, name="tiny"), torch.device("cpu"))
    vae.register_to_config(latents_mean=[0.0] * 4, latents_std=[1.0] * 4)
    vae.save_pretrained(tmp_path / "vae")
    with pytest.raises(ModelError, match="latents_mean"):
        load_vae(ModelFolder(path=tmp_path, name="playground"), torch.device("cpu"))
