"""A model whose text encoders differ in width, as SDXL's do, and a change to merge into it."""

import shutil
import zlib
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from rasengan_xl.mini import architecture
from rasengan_xl.sdxl.model_folder import ModelFolder, find_model


def _text_config(width: int, vocabulary: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=architecture.TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
    )


@pytest.fixture(scope="session")
def uneven_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """The tiny model with encoders of 32 and 96: by their widths diffusers tells them apart."""
    folder = tmp_path_factory.mktemp("uneven") / "model"
    shutil.copytree(tiny_model, folder)
    torch.manual_seed(1)
    first = CLIPTextModel.from_pretrained(tiny_model, subfolder="text_encoder")
    vocabulary = first.config.vocab_size
    CLIPTextModel(_text_config(32, vocabulary)).save_pretrained(folder / "text_encoder")
    second = CLIPTextModelWithProjection(_text_config(96, vocabulary))
    second.save_pretrained(folder / "text_encoder_2")
    return find_model(str(folder))


def add_low_rank(name: str, base: Tensor) -> Tensor:
    """Add a product of rank 2, different for each name, to the matrices of attention."""
    if base.ndim != 2 or not ("attn" in name or "proj" in name):
        return base
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    rows, columns = base.shape
    up, down = (torch.randn(*shape, generator=generator) for shape in ((rows, 2), (2, columns)))
    return base.float() + 0.02 * up @ down
