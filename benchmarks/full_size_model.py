"""Write an SDXL of full size with random weights, and pictures to train it on.

    python benchmarks/full_size_model.py /tmp/sdxl --pictures 200

Gives true figures of speed and memory for every phase of a real run where the real weights
cannot be had.  The folder `model` then holds about 7 GB in half precision; `pictures` holds
captioned portraits of several shapes.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from rasengan_xl.mini import MODEL_FOLDER, architecture
from rasengan_xl.mini.world.captions import write_caption
from rasengan_xl.mini.world.portraits import draw_portrait
from rasengan_xl.mini.world.scenes import draw_scene
from rasengan_xl.sdxl.components import load_tokenizers
from rasengan_xl.sdxl.full_size import build_full_size_unet
from rasengan_xl.sdxl.model_folder import ModelFolder

SIZES = ((1024, 1024), (1152, 896), (832, 1216), (1344, 768))
"""Width and height of the pictures, in turn."""


def build_pipeline(device: str) -> StableDiffusionXLPipeline:
    """Build every part in half precision, the tokenizers those of mini SDXL."""
    tokenizers = load_tokenizers(ModelFolder(path=MODEL_FOLDER, name="mini"))
    vocabulary = len(tokenizers[0])
    torch.set_default_dtype(torch.float16)
    with torch.device(device):
        parts: dict[str, Any] = {
            "unet": build_full_size_unet(),
            "vae": build_vae(),
            "text_encoder": CLIPTextModel(text_config(vocabulary, 768, 12, 12, "quick_gelu")),
            "text_encoder_2": CLIPTextModelWithProjection(
                text_config(vocabulary, 1280, 32, 20, "gelu")
            ),
        }
    torch.set_default_dtype(torch.float32)
    return StableDiffusionXLPipeline(
        **parts,
        tokenizer=tokenizers[0],
        tokenizer_2=tokenizers[1],
        scheduler=architecture.build_scheduler(),
        add_watermarker=False,
    )


def build_vae() -> AutoencoderKL:
    """Build SDXL's autoencoder with random weights."""
    kind: Any = AutoencoderKL  # its own types admit tuples of one element only
    return kind(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        sample_size=1024,
        scaling_factor=0.13025,
    )


def text_config(
    vocabulary: int, width: int, layers: int, heads: int, activation: str
) -> CLIPTextConfig:
    """Return the shape of one of SDXL's text encoders."""
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        hidden_act=activation,
    )


def draw_pictures(folder: Path, count: int) -> None:
    """Draw captioned portraits, stretched to several shapes."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        scene = draw_scene(number)
        picture = draw_portrait(scene, "shinobi", 256).resize(SIZES[number % len(SIZES)])
        picture.save(folder / f"{number:05d}.jpg", quality=92)
        caption = write_caption(scene, "shinobi")
        (folder / f"{number:05d}.txt").write_text(caption, encoding="utf-8")


def main() -> None:
    """Write the model and the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--device", default="cuda")
    told = parser.parse_args()
    draw_pictures(told.folder / "pictures", told.pictures)
    build_pipeline(told.device).save_pretrained(told.folder / "model")


if __name__ == "__main__":
    main()
