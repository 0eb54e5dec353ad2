"""The stages of building mini SDXL, in order; each leaves files from which the next continues."""

import json
import logging
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import (
    StableDiffusionXLPipeline,
)
from torch import Tensor, nn
from transformers import CLIPTokenizer

from rasengan_xl.mini import architecture
from rasengan_xl.mini.pretrain import autoencoder, denoiser, text
from rasengan_xl.mini.pretrain.pictures import (
    FIRST_HELD_OUT_SEED,
    FIRST_TRAINING_SEED,
    Subject,
    choose_subjects,
    draw_pictures,
)
from rasengan_xl.mini.pretrain.progress import StageProgress, follow_stage
from rasengan_xl.mini.pretrain.reader_stage import build_reader
from rasengan_xl.mini.pretrain.tokenizers import train_tokenizers
from rasengan_xl.mini.world.hands import HANDS

CAPTIONS_PER_STYLE = 4_000
VAE_PICTURES_PER_STYLE = 1_600
UNET_PICTURES = {"plain": 12_000, "pencil": 2_000, "watercolour": 2_000, "poster": 2_000}
HELD_OUT_PICTURES_PER_STYLE = 100

Module = TypeVar("Module", bound=nn.Module)
Tokenizers = tuple[CLIPTokenizer, CLIPTokenizer]

logger = logging.getLogger(__name__)


def pretrain(work: Path, out: Path, device: torch.device) -> Iterator[StageProgress]:
    """Build mini SDXL from nothing, continuing where an earlier call stopped.

    Args:
        work: Folder for pictures and checkpoints (about 1 GB).
        out: Diffusers folder to write at the end, weights in float16; the attribute reader goes
            to `reader` in it.
        device: Where to train.
    """
    work.mkdir(parents=True, exist_ok=True)
    tokenizers, encoders = yield from _text_stage(work, device)
    vae = yield from _vae_stage(work, device)
    torch.manual_seed(denoiser.SETTINGS.seed)
    unet = _on(device, architecture.build_unet())
    portraits = _encode_portraits(work, vae, tokenizers, encoders)
    steps = denoiser.train_unet(unet, portraits, work / "unet.safetensors", denoiser.SETTINGS)
    yield from follow_stage("unet", denoiser.SETTINGS.steps, steps)

    save_model(
        out,
        StableDiffusionXLPipeline(
            vae=vae,
            text_encoder=encoders.first,
            text_encoder_2=encoders.second,
            tokenizer=tokenizers[0],
            tokenizer_2=tokenizers[1],
            unet=unet,
            scheduler=cast("Any", architecture.build_scheduler()),
            add_watermarker=False,
        ),
    )
    yield from build_reader(work, out, out, device)


def save_model(out: Path, pipeline: StableDiffusionXLPipeline) -> None:
    """Write the weights in half precision, and say that they are to be used in float32."""
    encoders = ("text_encoder", "text_encoder_2")
    for part in ("vae", "unet", *encoders):
        getattr(pipeline, part).to("cpu", torch.float16)
    pipeline.save_pretrained(out)
    for part in encoders:
        # transformers loads in the type that config.json names, diffusers always in float32.
        file = out / part / "config.json"
        config = json.loads(file.read_text(encoding="utf-8"))
        file.write_text(
            json.dumps({**config, "dtype": "float32"}, indent=2) + "\n", encoding="utf-8"
        )


def _text_stage(
    work: Path, device: torch.device
) -> Generator[StageProgress, None, tuple[Tokenizers, text.TextStage]]:
    styles: dict[str, int] = dict.fromkeys(text.CAPTION_STYLES, CAPTIONS_PER_STYLE)
    subjects = choose_subjects(styles, FIRST_TRAINING_SEED)
    tokenizers = train_tokenizers(text.caption_subjects(subjects))
    first = tokenizers[0]
    torch.manual_seed(text.SETTINGS.seed)
    stage = text.TextStage(
        *architecture.build_text_encoders(len(first), *text.ends_of_caption(first))
    ).to(device)
    steps = text.train_text_encoders(
        stage, tokenizers, subjects, work / "text.safetensors", text.SETTINGS
    )
    yield from follow_stage("text encoders", text.SETTINGS.steps, steps)
    return tokenizers, stage


def _vae_stage(work: Path, device: torch.device) -> Generator[StageProgress, None, AutoencoderKL]:
    styles = dict.fromkeys(HANDS, VAE_PICTURES_PER_STYLE)
    pictures = draw_pictures(
        choose_subjects(styles, FIRST_TRAINING_SEED), work / "vae-pictures.npy"
    )
    torch.manual_seed(autoencoder.SETTINGS.seed)
    vae = _on(device, architecture.build_vae())
    steps = autoencoder.train_vae(
        vae, torch.from_numpy(pictures), work / "vae.safetensors", autoencoder.SETTINGS
    )
    yield from follow_stage("vae", autoencoder.SETTINGS.steps, steps)
    for style in HANDS:
        held_out = choose_subjects({style: HELD_OUT_PICTURES_PER_STYLE}, FIRST_HELD_OUT_SEED)
        psnr_db = autoencoder.reconstruction_psnr_db(vae, torch.from_numpy(draw_pictures(held_out)))
        logger.info("held-out reconstruction, %s: %.1f dB", style, psnr_db)
    return vae


def _encode_portraits(
    work: Path,
    vae: AutoencoderKL,
    tokenizers: Tokenizers,
    encoders: text.TextStage,
) -> denoiser.EncodedPortraits:
    subjects = choose_subjects(UNET_PICTURES, FIRST_TRAINING_SEED)
    pictures = draw_pictures(subjects, work / "unet-pictures.npy")
    means = autoencoder.encode_means(vae, torch.from_numpy(pictures))
    plain = means[: UNET_PICTURES["plain"]]
    scaling_factor = round(1 / plain.std().item(), 4)
    vae.register_to_config(scaling_factor=scaling_factor)
    prompts, pooled_prompts = _encode_captions(subjects, tokenizers, encoders)
    return denoiser.EncodedPortraits(
        latents=means * scaling_factor, prompts=prompts, pooled_prompts=pooled_prompts
    )


@torch.no_grad()
def _encode_captions(
    subjects: list[Subject],
    tokenizers: Tokenizers,
    encoders: text.TextStage,
) -> tuple[Tensor, Tensor]:
    encoders.eval()
    device = next(encoders.parameters()).device
    ids = [text.tokenize(t, text.caption_subjects(subjects)).to(device) for t in tokenizers]
    prompts: list[Tensor] = []
    pooled: list[Tensor] = []
    for first_ids, second_ids in zip(*(autoencoder.batches(i, 250) for i in ids), strict=True):
        first = encoders.first(first_ids, output_hidden_states=True)
        second = encoders.second(second_ids, output_hidden_states=True)
        states = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        prompts.append(states.half().cpu())
        pooled.append(second.text_embeds.cpu())
    return torch.cat(prompts), torch.cat(pooled)


def _on(device: torch.device, module: Module) -> Module:
    return cast("Any", module).to(device)
