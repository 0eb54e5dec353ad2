import diffusers
import numpy as np
import pytest
from diffusers import EulerDiscreteScheduler

from rasengan_xl.errors import ModelError, RecipeError
from rasengan_xl.generation.drawing import draw_pictures
from rasengan_xl.generation.requests import Drawing, Request
from rasengan_xl.generation.schedulers import (
    SAMPLERS,
    build_scheduler,
    check_steps,
    recognize_sampler,
    sampler_name,
)

DRAWING = Drawing(size=(32, 32), sampler_steps=3, guidance=4.0, batch_size=2)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_draws_alike_alone_and_in_a_batch(pipeline, name):
    own = pipeline.scheduler
    requests = [Request("a ninja", 1), Request("a person at night", 2)]
    try:
        pipeline.scheduler = build_scheduler(own, name)
        together = list(draw_pictures(pipeline, requests, DRAWING))
        (alone,) = draw_pictures(pipeline, requests[1:], DRAWING)
    finally:
        pipeline.scheduler = own
    first, second = (np.asarray(picture).astype(int) for picture in together)
    assert first.std() > 1
    assert np.abs(second - np.asarray(alone).astype(int)).max() <= 1


def test_ddim_takes_the_very_steps_of_euler_though_latents_exceed_one(pipeline):
    own = pipeline.scheduler
    requests, drawn = [Request("a ninja", 1)], {}
    try:
        for name in ("euler", "ddim"):
            scheduler = EulerDiscreteScheduler(
                beta_start=0.00085,
                beta_end=0.012,
                beta_schedule="scaled_linear",
                timestep_spacing="leading",
                steps_offset=1,
            )
            pipeline.scheduler = build_scheduler(scheduler, name)
            (picture,) = draw_pictures(pipeline, requests, DRAWING)
            drawn[name] = np.asarray(picture).astype(int)
    finally:
        pipeline.scheduler = own
    assert np.abs(drawn["ddim"] - drawn["euler"]).max() <= 2


def test_samplers_are_found_by_the_names_of_a1111_and_comfyui():
    for asked, name in {
        "DPM++ 2M Karras": "dpm++2m-karras",
        "Euler a": "euler-a",
        "euler_ancestral": "euler-a",
        "dpmpp_2m_sde": "dpm++2m-sde",
        "DPM++ 2M SDE Karras": "dpm++2m-sde-karras",
        "PLMS": "pndm",
        "UniPC": "unipc",
    }.items():
        assert sampler_name(asked) == name


def test_an_unknown_sampler_is_answered_with_the_closest():
    with pytest.raises(RecipeError, match="'eular-a': no such sampler, did you mean 'euler-a'"):
        sampler_name("eular-a")
    with pytest.raises(RecipeError, match="known: euler,"):
        sampler_name("§§§")


@pytest.mark.parametrize("name", SAMPLERS)
def test_each_is_recognized_again(name):
    built = build_scheduler(EulerDiscreteScheduler(), name)
    assert recognize_sampler(built) is SAMPLERS[name]


def test_one_from_elsewhere_has_no_name():
    assert recognize_sampler(diffusers.SASolverScheduler()) is None
    assert recognize_sampler(EulerDiscreteScheduler()) is SAMPLERS["euler"]


def test_what_the_model_predicts_and_where_it_begins_is_kept():
    own = EulerDiscreteScheduler(
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        beta_start=0.00085,
    )
    built = build_scheduler(own, "dpm++2m")
    assert built.config.prediction_type == "v_prediction"
    assert built.config.rescale_betas_zero_snr is True
    assert built.config.timestep_spacing == "trailing"
    assert built.config.beta_start == 0.00085
    with pytest.raises(ModelError, match="zero terminal SNR.* take one of euler"):
        build_scheduler(own, "heun")


def test_an_adapter_from_pure_noise_changes_the_models_own_sampler_too():
    built = build_scheduler(
        EulerDiscreteScheduler(prediction_type="v_prediction"), None, from_pure_noise=True
    )
    assert built.config.rescale_betas_zero_snr is True
    assert built.config.timestep_spacing == "trailing"


def test_more_steps_than_a_sampler_can_take_are_refused():
    with pytest.raises(RecipeError, match="LCMScheduler cannot take steps = 60"):
        check_steps(build_scheduler(EulerDiscreteScheduler(), "lcm"), 60)
