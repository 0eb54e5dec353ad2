"""From what the source tells of a picture to everything the model may be told of it."""

import re
from string import Formatter

import torch

from rasengan_xl.config.dataset_settings import CaptionSettings
from rasengan_xl.sdxl.draws import keyed_generator
from rasengan_xl.sources.pictures import CaptionedPicture


def list_wordings(picture: CaptionedPicture, settings: CaptionSettings) -> tuple[str, ...]:
    """List every wording of a picture that a step may draw, without repetition.

    The captions as they are come first, in the source's order, then shuffle by shuffle those
    whose tags were shuffled. The first wording is the one that held-out loss is measured with.

    Returns:
        Nothing if the template asks only for what this picture does not have.
    """
    shuffled = (
        shuffle_tags(caption, settings.kept_tags, picture.picture_digest, number, shuffle)
        for shuffle in range(settings.tag_shuffles)
        for number, caption in enumerate(picture.captions)
    )
    wordings = (
        fill_template(settings.template, caption, settings.trigger, picture.class_name)
        for caption in (*picture.captions, *shuffled)
    )
    return tuple(dict.fromkeys(wording for wording in wordings if wording))


def fill_template(template: str, caption: str, trigger: str, class_name: str) -> str:
    """Fill a caption template; separators around a field that is empty go with it.

    Only the template's own commas and spaces are tidied, never those of what is filled in.
    """
    values = {"caption": caption, "trigger": trigger, "class": class_name}
    present = {name: value for name, value in values.items() if value}
    kept = "".join(
        # A literal's braces are kept double, because it is filled below.
        re.sub(r"([{}])", r"\1\1", literal) + (f"{{{name}}}" if name in present else "")
        for literal, name, _, _ in Formatter().parse(template)
    )
    return _tidy(kept).format_map(present)


def shuffle_tags(caption: str, kept: int, *key: str | int) -> str:
    """Reorder the comma-separated tags of a caption.

    Args:
        caption: One without commas stays as it is.
        kept: Number of tags at the beginning that stay in place.
        key: What the order depends on.
    """
    tags = [tag for tag in (part.strip() for part in caption.split(",")) if tag]
    fixed, loose = tags[:kept], tags[kept:]
    order = torch.randperm(len(loose), generator=keyed_generator("tags", *key))
    return ", ".join((*fixed, *(loose[int(place)] for place in order)))


def _tidy(template: str) -> str:
    one_comma = re.sub(r"\s*,(\s*,)+", ",", template)
    return " ".join(one_comma.split()).strip(" ,")
