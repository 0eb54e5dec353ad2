import numpy as np
import pytest
from PIL import Image

from rasengan_xl.errors import DatasetError, RecipeError
from rasengan_xl.generation.drawing import draw_batch
from rasengan_xl.generation.from_picture import encode_start, open_start
from rasengan_xl.generation.requests import Drawing, Request
from rasengan_xl.sdxl.latents import decode_latents

DRAWING = Drawing(size=(32, 40), sampler_steps=4, guidance=4.0, batch_size=2, reads_emphasis=True)
REQUESTS = [Request("a ninja", 1), Request("a ninja", 2)]


@pytest.fixture
def photo(tmp_path):
    file = tmp_path / "photo.png"
    ramp = np.linspace(0, 255, 80 * 50 * 3).reshape(50, 80, 3).astype(np.uint8)
    Image.fromarray(ramp).save(file)
    return file


def draw(pipeline, start):
    pictures = draw_batch(pipeline, REQUESTS, DRAWING, start=start).pictures
    return np.stack([np.asarray(picture) for picture in pictures]).astype(int)


def test_the_less_noise_the_more_of_the_picture_is_left(pipeline, photo):
    start = open_start(photo, 0.5, 4)
    kept = decode_latents(pipeline.vae, encode_start(pipeline, start, DRAWING.size))[0]
    kept = ((kept.permute(1, 2, 0).clamp(-1, 1) + 1) * 127.5).numpy()
    apart = [
        np.abs(draw(pipeline, open_start(photo, denoise, 4)) - kept).mean()
        for denoise in (0.25, 0.5, 1.0)
    ]
    assert apart == sorted(apart)


def test_seeds_differ_and_a_seed_draws_the_same_again(pipeline, photo):
    start = open_start(photo, 0.5, 4)
    once, again = draw(pipeline, start), draw(pipeline, start)
    assert once.shape == (2, 40, 32, 3)
    assert np.array_equal(once, again)
    assert not np.array_equal(once[0], once[1])


def test_the_vae_is_in_float32_afterwards(pipeline, photo):
    draw(pipeline, open_start(photo, 0.5, 4))
    assert {str(p.dtype) for p in pipeline.vae.parameters()} == {"torch.float32"}


def test_what_is_no_picture_is_one_line(tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"broken.png: not a readable picture"):
        open_start(broken, 0.5, 4)
    with pytest.raises(RecipeError, match=r"from_picture = .*none.png': No such file"):
        open_start(tmp_path / "none.png", 0.5, 4)


def test_a_share_of_noise_that_leaves_no_step_is_refused(photo):
    with pytest.raises(RecipeError, match="denoise = 0.1 of 4 steps leaves none"):
        open_start(photo, 0.1, 4)
