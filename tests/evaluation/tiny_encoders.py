"""CLIP and DINOv2 with random weights, as small as they can be, in the hub's own form."""

import json
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model

from rasengan_xl.mini.pretrain.tokenizers import train_tokenizers

EDGE = 28
OLD_FORM = {"size": 28, "crop_size": 28, "do_center_crop": True}
NEW_FORM = {"size": {"shortest_edge": 32}, "crop_size": {"height": 28, "width": 28}}
NORMALISED = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4], "resample": 3}


def write_clip(folder: Path) -> CLIPModel:
    torch.manual_seed(0)
    tokenizer = train_tokenizers(["a girl with red hair", "a boy with a blue jacket"])[0]
    blocks = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = CLIPConfig(
        text_config={
            **blocks,
            "hidden_size": 16,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 12,
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={**blocks, "hidden_size": 16, "image_size": EDGE, "patch_size": 14},
        projection_dim=8,
    )
    model = CLIPModel(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_preprocessor(folder, OLD_FORM)
    return model


def write_dino(folder: Path) -> Dinov2Model:
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        mlp_ratio=1,
        image_size=EDGE,
        patch_size=14,
    )
    model = Dinov2Model(config).eval()
    model.save_pretrained(folder)
    write_preprocessor(folder, NEW_FORM)
    return model


def write_preprocessor(folder: Path, form: dict[str, object]) -> None:
    text = json.dumps({**NORMALISED, **form})
    (folder / "preprocessor_config.json").write_text(text)
