"""A difference that is there, rank 1 against rank 32 on mini SDXL, is found."""

import pytest

from rasengan_xl.comparison.execute import run_comparison
from rasengan_xl.comparison.result import RESULT_FILE, Comparison
from rasengan_xl.config.comparison import load_comparison
from rasengan_xl.mini.world.captions import write_caption
from rasengan_xl.mini.world.portraits import draw_portrait
from rasengan_xl.mini.world.scenes import draw_scene

SMALL = ("dataset.resolution=32", "dataset.shapes=square", "dataset.held_out_minimum=16")
SHORT = ("training.steps=20", "training.save_every=20", "training.batch_size=2")
QUICK = ("evaluation.pictures=8", "evaluation.timesteps=5", "evaluation.checkpoint_pictures=0")
UNJUDGED = ("scoring.pictures=0", "pictures.sampler_steps=1", "pictures.seeds=[1]")


@pytest.fixture
def sixty_portraits(tmp_path):
    folder = tmp_path / "portraits"
    folder.mkdir()
    for i in range(60):
        scene = draw_scene(i)
        draw_portrait(scene, "shinobi", 32).save(folder / f"{i:02d}.png")
        (folder / f"{i:02d}.txt").write_text(write_caption(scene, "shinobi"))
    return folder


@pytest.mark.slow
def test_rank_1_is_told_from_rank_32(sixty_portraits, tmp_path, place):
    file = tmp_path / "planted.toml"
    file.write_text(
        'extends = "parts/mini"\nname = "planted"\nvaries = ["adapter"]\nseeds = [0, 1, 2]\n'
        '[base]\nextends = ["mini-base", "methods/lora"]\n'
        "[arms.rank-32.adapter]\nrank = 32\nalpha = 64\n"
        "[arms.rank-1.adapter]\nrank = 1\nalpha = 2\n"
    )
    pictures = f"dataset.source={sixty_portraits}"
    settings = load_comparison(str(file), [pictures, *SMALL, *SHORT, *QUICK, *UNJUDGED])
    out = tmp_path / "out"
    list(run_comparison(settings, out, place=place))
    result = Comparison.model_validate_json((out / RESULT_FILE).read_text())
    (verdict,) = (v for v in result.verdicts if v.measure == result.primary)
    assert (verdict.first, verdict.second) == ("rank-32", "rank-1")
    assert verdict.outcome == "better"
    assert verdict.high < 0
    assert (verdict.seeds, verdict.pictures) == (3, 8)
