import pytest

from rasengan_xl.config.requests import drawing_settings
from rasengan_xl.errors import RecipeError


def test_sizes_seeds_aspects_and_sweeps_are_read_as_they_are_typed():
    assert drawing_settings(size="512").size == (512, 512)
    assert drawing_settings(size="832x1216").size == (832, 1216)
    assert drawing_settings(aspect="3:2").aspect == (3, 2)
    assert drawing_settings(seeds=("3", "0-2", 9)).seeds == (3, 0, 1, 2, 9)
    assert drawing_settings(strengths="0, 0.5,1").strengths == (0, 0.5, 1)
    assert drawing_settings(weights="0.7,-0.3").weights == (0.7, -0.3)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"size": "33"}, "size = '33': 33 is no multiple of 8 from 32 to 8192"),
        ({"size": "big"}, "size = 'big': write a side"),
        ({"size": "64x8"}, "size = '64x8': 8 is no multiple"),
        ({"aspect": "3:0"}, "aspect = '3:0': write WIDTH:HEIGHT"),
        ({"aspect": "wide"}, "aspect = 'wide': write WIDTH:HEIGHT"),
        ({"size": "64", "aspect": "3:2"}, "not both"),
        ({"seeds": ("5-1",)}, "5-1 is no range"),
        ({"seeds": ("0-99999999",)}, "no range of up to 10,000"),
        ({"seeds": ("x",)}, "seeds.0 = 'x'"),
        ({"seeds": ("-1",)}, "seeds.0 = '-1'"),
        ({"strengths": "a"}, "strengths.0 = 'a'"),
        ({"strengths": "nan"}, "strengths.0 = 'nan': .*finite"),
        ({"guidance": float("inf")}, "guidance = inf"),
        ({"guidance_rescale": 2}, "guidance_rescale = 2"),
        ({"denoise": 0}, "denoise = 0"),
        ({"denoise": 0.5}, "give from_picture, too"),
        ({"strengths": "0.5,.5"}, "names 0.5 twice"),
        ({"guidance": 1, "negative_prompt": "x"}, "draws without guidance"),
        ({"memory": "tiny"}, "memory = 'tiny'"),
        ({"strengths": "0,1", "checkpoints": True}, "not both"),
        ({"sampler_stps": 3}, "did you mean 'sampler_steps'"),
    ],
)
def test_a_wrong_value_is_one_line_with_the_key_and_the_value(values, expected):
    with pytest.raises(RecipeError, match=f"generate: .*{expected}") as mistake:
        drawing_settings(**values)
    assert "\n" not in str(mistake.value)


def test_a_wrong_seed_is_one_fault_not_two():
    with pytest.raises(RecipeError, match="seeds.0 = 'abc'") as caught:
        drawing_settings(seeds=("abc",))
    assert ";" not in str(caught.value)
