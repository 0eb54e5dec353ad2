"""The model card of a run: README.md, as the hub reads it."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from rasengan_xl.config.base_precisions import STORAGES
from rasengan_xl.config.settings import AdapterSettings
from rasengan_xl.errors import OutputError
from rasengan_xl.file_digests import file_digest
from rasengan_xl.runs.folder import RunFolder, read_record
from rasengan_xl.runs.records import DatasetFacts, Machine, RunSummary
from rasengan_xl.runs.verification import Verification, read_verification
from rasengan_xl.sharing.front_matter import MOST_SHOWN, address_in_card, front_matter
from rasengan_xl.sharing.licences import Licence, find_base_licence, find_data_licence
from rasengan_xl.sharing.markdown import Markdown, escape, on_one_line, render
from rasengan_xl.sharing.pictures import Asked, CardPicture
from rasengan_xl.sharing.places import Origins, find_origins, hide_places, known_places
from rasengan_xl.sharing.snippets import write_snippets
from rasengan_xl.sharing.tables import (
    list_measures,
    list_provenance,
    list_settings,
    method_name,
    scale_in_words,
    tell_exceptions,
)
from rasengan_xl.sources.embedded import EMBEDDED
from rasengan_xl.whole_file import write_whole

_SEAL = re.compile(r"<!-- written by rasengan ([0-9a-f]{64}) -->\n?\Z")
"""The last line of a card that nobody has edited: SHA-256 of all before it."""


def write_card(folder: RunFolder, pictures: Sequence[CardPicture] = ()) -> Path:
    """Write README.md into a run's folder; one that the user has edited stays as it is.

    Args:
        folder: Of a run that has an adapter and a summary.
        pictures: Which lie in the folder.

    Raises:
        OutputError: A record of the run is missing or damaged.
    """
    if not is_edited(folder):
        write_whole(folder.card_file, render_card(folder, pictures))
    return folder.card_file


def is_edited(folder: RunFolder) -> bool:
    """Tell whether the folder holds a card that is not as it was written."""
    try:
        text = folder.card_file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as error:
        raise OutputError(f"{folder.card_file}: cannot be read ({error}); remove it") from error
    seal = _SEAL.search(text)
    return seal is None or _digest(text[: seal.start()]) != seal[1]


def render_card(
    folder: RunFolder,
    pictures: Sequence[CardPicture] = (),
    *,
    hub_id: str | None = None,
    licence: str | None = None,
) -> str:
    """Compose a card that names no place on this machine.

    Args:
        folder: Of a run that has an adapter and a summary.
        pictures: Which lie in the folder.
        hub_id: Where it will be read; absent: in the folder.
        licence: Of the adapter, by the hub's short name; absent: that of the base model.
    """
    origins, base_licence = find_origins(folder), find_base_licence(folder)
    own = (
        Licence(name=on_one_line(licence), remark="chosen by who shares it")
        if licence
        else (Licence(name=base_licence.name, remark="that of the base model it derives from"))
    )
    front = front_matter(folder, origins, own, pictures)
    body = render(
        "card.md.jinja",
        title=hub_id.partition("/")[2] if hub_id else folder.path.resolve().name,
        hub_id=hub_id,
        licence=own,
        base_licence=base_licence,
        data_licence=find_data_licence(folder),
        **_describe_pictures(folder, pictures),
        **_describe_adapter(folder, origins),
        **_describe_use(folder, origins, pictures, hub_id),
        **_describe_records(folder, origins),
    )
    text = f"---\n{front.to_yaml().strip()}\n---\n\n{body}\n"
    return f"{text}<!-- written by rasengan {_digest(text)} -->\n"


def _describe_pictures(folder: RunFolder, pictures: Sequence[CardPicture]) -> dict[str, object]:
    shown = [
        {
            "base": Markdown(address_in_card(folder, picture.base)),
            "adapted": Markdown(address_in_card(folder, picture.adapted)),
            "prompt": picture.asked.prompt or "not told",
            "seed": picture.asked.seed,
            "origin": ", a held-out caption" if picture.is_caption else "",
        }
        for picture in pictures[:MOST_SHOWN]
    ]
    return {"pictures": shown, "more": len(pictures) - len(shown)}


def _describe_adapter(folder: RunFolder, origins: Origins) -> dict[str, object]:
    settings = folder.read_settings()
    summary = read_record(RunSummary, folder.summary_file)
    adapter, caption = settings.adapter, settings.caption
    storage = STORAGES[adapter.base_precision]
    return {
        "method": method_name(adapter),
        "story": _tell_method(adapter),
        "base_link": _name_base(origins),
        "dataset_link": _name_dataset(origins),
        "pictures_trained": f"{read_record(DatasetFacts, folder.dataset_file).train:,}",
        "unfinished": summary.steps if summary.status != "finished" else 0,
        "base_stored_in": storage.title if storage.is_quantized else None,
        "rank": adapter.rank,
        "alpha": f"{adapter.alpha:g}{tell_exceptions(adapter)}",
        "goes_on": adapter.start_from is not None,
        "scale": scale_in_words(adapter),
        "targets": ", ".join(adapter.targets),
        "trainable": f"{summary.trainable_parameters:,}",
        "total": f"{summary.total_parameters:,}",
        "best_step": best.step if (best := folder.best()) else None,
        "trigger": caption.trigger,
        "template": caption.template,
    }


def _name_base(origins: Origins) -> Markdown:
    if origins.base_model == EMBEDDED:
        return Markdown("the mini SDXL that ships with Rasengan-XL")
    name = origins.base_model
    return _hub_link(name, name) if origins.base_is_public else escape(name)


def _name_dataset(origins: Origins) -> Markdown:
    if origins.dataset == EMBEDDED:
        return Markdown("the drawn world that ships with Rasengan-XL")
    name = origins.dataset
    return _hub_link(name, f"datasets/{name}") if origins.dataset_is_public else escape(name)


def _hub_link(name: str, place: str) -> Markdown:
    return Markdown(f"[{escape(name)}](https://huggingface.co/{quote(place)})")


def _tell_method(adapter: AdapterSettings) -> Markdown:
    """Say in words what was trained."""
    storage = STORAGES[adapter.base_precision]
    stored = f"stored in {storage.title}" if storage.is_quantized else "in its own precision"
    if storage.is_qlora:
        stored += " (QLoRA, arXiv:2305.14314)"
    told = [
        "A low-rank update BA (LoRA, arXiv:2106.09685) of the UNet's layers named below,",
        f"trained in fp32 over a frozen base {stored}.",
    ]
    if adapter.decompose:
        told.append(
            "Each of these layers learns its magnitude apart from its direction (DoRA, "
            "arXiv:2402.09353)."
        )
    return Markdown(" ".join((*told, "Text encoders and VAE are those of the base.")))


def _describe_use(
    folder: RunFolder, origins: Origins, pictures: Sequence[CardPicture], hub_id: str | None
) -> dict[str, object]:
    trigger = folder.read_settings().caption.trigger
    first = pictures[0].asked if pictures else Asked(prompt=trigger or "a portrait")
    example = next((shown.asked.prompt for shown in pictures if shown.is_caption), None)
    return {"code": write_snippets(folder, origins, first, hub_id), "example": example}


def _describe_records(folder: RunFolder, origins: Origins) -> dict[str, object]:
    machine = read_record(Machine, folder.machine_file)
    return {
        "settings": list_settings(folder.read_settings(), origins, machine),
        "measures": list_measures(folder),
        "verification": _public_verification(folder),
        "provenance": list_provenance(folder, file_digest(folder.adapter_file)),
    }


def _public_verification(folder: RunFolder) -> Verification | None:
    found = read_verification(folder)
    if found is None:
        return None
    known = known_places(folder)
    checks = [
        check.model_copy(update={"detail": hide_places(check.detail, known)})
        for check in found.checks
    ]
    return found.model_copy(update={"checks": checks})


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
