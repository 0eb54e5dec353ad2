"""What the hub files an adapter under: the YAML at the head of its card."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from huggingface_hub import ModelCardData

from rasengan_xl.config.settings import AdapterSettings
from rasengan_xl.errors import OutputError
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.sharing.licences import Licence
from rasengan_xl.sharing.markdown import on_one_line
from rasengan_xl.sharing.pictures import CardPicture
from rasengan_xl.sharing.places import Origins
from rasengan_xl.sharing.tables import method_name

MOST_SHOWN = 8
"""Pairs of pictures on a card."""


def front_matter(
    folder: RunFolder, origins: Origins, own: Licence, pictures: Sequence[CardPicture]
) -> ModelCardData:
    """Say what the hub files the adapter under (huggingface.co/docs/hub/model-cards)."""
    settings = folder.read_settings()
    base = origins.base_model if origins.base_is_public and "/" in origins.base_model else None
    widget = [
        {
            "text": on_one_line(shown.asked.prompt) or "-",
            "output": {"url": address_in_card(folder, shown.adapted)},
        }
        for shown in pictures[:MOST_SHOWN]
    ]
    data = origins.dataset if origins.dataset_is_public and "/" in origins.dataset else None
    tags = ["stable-diffusion-xl", "stable-diffusion-xl-diffusers", "text-to-image", "diffusers"]
    tags += [
        "diffusers-training",
        *_method_tags(settings.adapter),
        "template:sd-lora",
        "rasengan-xl",
    ]
    return ModelCardData(
        license=own.name,
        base_model=base,
        datasets=[data] if data else None,
        library_name="diffusers",
        pipeline_tag="text-to-image",
        tags=tags,
        base_model_relation="adapter" if base else None,
        instance_prompt=on_one_line(settings.caption.trigger) or None,
        widget=widget or None,
    )


def _method_tags(adapter: AdapterSettings) -> list[str]:
    own = method_name(adapter).lower()
    return ["lora"] if own == "lora" else ["lora", own]  # the hub files all of them under lora


def address_in_card(folder: RunFolder, picture: Path) -> str:
    """Write a picture's address relative to the card.

    Raises:
        OutputError: It lies elsewhere, where nobody who reads the card could see it.
    """
    try:
        inside = picture.resolve().relative_to(folder.path.resolve())
    except ValueError as error:
        raise OutputError(f"{picture}: is not in {folder.path}; copy it there first") from error
    return quote(inside.as_posix())
