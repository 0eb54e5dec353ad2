"""A real SDXL, as small as it can be, and short runs on it."""

import gc
import os
import signal
from contextlib import closing
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Shapes written in signatures are checked while tests run, and only then.
SHAPED = ("sdxl", "sources", "dataset", "preparation", "engine", "adapters", "evaluation")
SHAPED += ("training", "generation")
SHAPED += ("mini.pretrain", "mini.reader")
install_import_hook([f"rasengan_xl.{name}" for name in SHAPED], "beartype.beartype")

import torch  # noqa: E402
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel  # noqa: E402

from rasengan_xl.config.recipe import lay_over, validate_run  # noqa: E402
from rasengan_xl.mini import architecture  # noqa: E402
from rasengan_xl.mini.pretrain.stages import save_model  # noqa: E402
from rasengan_xl.mini.pretrain.tokenizers import train_tokenizers  # noqa: E402
from rasengan_xl.mini.world.captions import write_caption  # noqa: E402
from rasengan_xl.mini.world.portraits import draw_portrait  # noqa: E402
from rasengan_xl.mini.world.scenes import draw_scene  # noqa: E402

from .nursery import Nursery  # noqa: E402

# A shell that starts the tests in the background has them ignore Ctrl-C, and with them every
# process that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Models this small are slower on several threads, and far slower where tests share the cores.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start


def pytest_collection_finish():
    """Search the libraries for garbage no more."""
    gc.freeze()


METHODS = {
    "lora": {"base_precision": "full", "decompose": False},
    "qlora": {"base_precision": "nf4", "decompose": False},
    "dora": {"base_precision": "full", "decompose": True},
    "qdora": {"base_precision": "nf4", "decompose": True},
}


def build_tiny_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(64, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1),
        attention_head_dim=(1, 1),
        use_linear_projection=True,
        cross_attention_dim=2 * architecture.TEXT_WIDTH,
        addition_embed_type="text_time",
        addition_time_embed_dim=architecture.TIME_WIDTH,
        projection_class_embeddings_input_dim=6 * architecture.TIME_WIDTH + architecture.TEXT_WIDTH,
        norm_num_groups=32,
    )


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder that holds a whole SDXL with random weights."""
    torch.manual_seed(0)
    captions = [write_caption(draw_scene(i), "plain") for i in range(50)]
    tokenizers = train_tokenizers(captions)
    first = tokenizers[0]
    encoders = architecture.build_text_encoders(len(first), first.bos_token_id, first.eos_token_id)
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_model(
        folder,
        StableDiffusionXLPipeline(
            vae=architecture.build_vae(),
            text_encoder=encoders[0],
            text_encoder_2=encoders[1],
            tokenizer=tokenizers[0],
            tokenizer_2=tokenizers[1],
            unet=build_tiny_unet(),
            scheduler=architecture.build_scheduler(),
            add_watermarker=False,
        ),
    )
    return folder


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve captioned portraits, not all square."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(12):
        scene = draw_scene(i)
        picture = draw_portrait(scene, "shinobi", 40)
        picture.resize((40 + 4 * (i % 3), 40)).save(folder / f"{i:02d}.png")
        (folder / f"{i:02d}.txt").write_text(write_caption(scene, "shinobi"))
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Encoded data goes to a folder of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RASENGAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory, own_cache: None):
    """Start the command in processes of their own, without loading the libraries in each."""
    with closing(Nursery(tmp_path_factory.mktemp("nursery"))) as nursery:
        yield nursery


@pytest.fixture
def settings(tiny_model: Path, picture_folder: Path):
    """Settings of a run of four steps; keyword arguments lay tables over them."""

    def build(**changes: object):
        tree: dict[str, object] = {
            "seed": 7,
            "base_model": str(tiny_model),
            "dataset": {
                "source": str(picture_folder),
                "resolution": 32,
                "shapes": "square",
                "held_out_minimum": 3,
            },
            "adapter": {"rank": 2, "alpha": 4},
            "training": {
                "steps": 4,
                "batch_size": 2,
                "accumulation": 1,
                "learning_rate": 1e-2,
                "warmup_steps": 1,
            },
            "evaluation": {"pictures": 2, "timesteps": 2},
            "compute": {"device": "cpu"},
        }
        lay_over(tree, changes)
        return validate_run(tree, "test")

    return build


@pytest.fixture
def tiny_unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return build_tiny_unet()
