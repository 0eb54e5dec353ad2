"""Write a CLIP ViT-L/14 and a DINOv2-base of true size with random weights.

    python benchmarks/full_size_encoders.py /tmp/encoders

What they say of pictures means nothing; how long they take, and how much memory, does.
"""

import argparse
import json
from pathlib import Path

from transformers import CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model

from rasengan_xl.mini import MODEL_FOLDER
from rasengan_xl.sdxl.components import load_tokenizers
from rasengan_xl.sdxl.model_folder import ModelFolder

EDGE = 224
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def write_clip(folder: Path) -> None:
    """Write CLIP, its tokenizer that of mini SDXL."""
    tokenizer = load_tokenizers(ModelFolder(path=MODEL_FOLDER, name="mini"))[0]
    config = CLIPConfig(
        text_config={
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "vocab_size": len(tokenizer),
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "patch_size": 14,
            "image_size": EDGE,
        },
        projection_dim=768,
    )
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_preprocessor(folder)


def write_dino(folder: Path) -> None:
    """Write DINOv2."""
    config = Dinov2Config(
        hidden_size=768, num_hidden_layers=12, num_attention_heads=12, image_size=518, patch_size=14
    )
    Dinov2Model(config).save_pretrained(folder)
    write_preprocessor(folder)


def write_preprocessor(folder: Path) -> None:
    """Say how pictures are prepared."""
    told = {"size": {"shortest_edge": EDGE}, "crop_size": EDGE, "resample": 3, **IMAGENET}
    (folder / "preprocessor_config.json").write_text(json.dumps(told), encoding="utf-8")


def main() -> None:
    """Write both."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    told = parser.parse_args()
    write_clip(told.folder / "clip")
    write_dino(told.folder / "dino")


if __name__ == "__main__":
    main()
