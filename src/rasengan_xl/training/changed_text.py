"""Held-out captions as the text encoders read them that a given adapter changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from rasengan_xl.adapters.applying import applied
from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.dataset.encoded import EncodedDataset
from rasengan_xl.dataset.encoding import CAPTIONS_AT_ONCE, prompt_key
from rasengan_xl.evaluation.held_out import HeldOutTable
from rasengan_xl.sdxl.components import load_text_encoders, load_tokenizers
from rasengan_xl.sdxl.model_folder import TEXT_ENCODERS
from rasengan_xl.sdxl.prompts import encode_captions
from rasengan_xl.training.assembly import Footing


@dataclass(frozen=True, slots=True)
class _InMemory:
    """Encoded captions that are in no store."""

    entries: Mapping[str, Mapping[str, Tensor]]

    def read(self, key: str) -> Mapping[str, Tensor]:
        """Return one of them."""
        return self.entries[key]


def with_changed_text(
    table: HeldOutTable, contents: AdapterContents, footing: Footing, dataset: EncodedDataset
) -> HeldOutTable:
    """Return the table with its captions as the adapter has the text encoders read them.

    Args:
        table: Whose captions are as the base reads them.
        contents: The adapter; without changes to text encoders, the table stays as it is.
        footing: Where and on what.
        dataset: Whose held-out pictures the table is of.
    """
    if not contents.changes_text:
        return table
    wanted = {picture.wordings[0] for picture in table.pictures.pictures}
    wordings = (planned.wordings[0] for planned in dataset.held_out_plan)
    texts = sorted({text for text in wordings if prompt_key(text) in wanted})
    entries = _encode(texts, contents, footing)
    return replace(table, pictures=replace(table.pictures, prompts=_InMemory(entries)))


def _encode(
    texts: Sequence[str], contents: AdapterContents, footing: Footing
) -> dict[str, dict[str, Tensor]]:
    tokenizers = load_tokenizers(footing.model)
    encoders = load_text_encoders(footing.model, footing.compute)
    parts: dict[str, nn.Module] = dict(zip(TEXT_ENCODERS, encoders, strict=True))
    changes = {n: c for n, c in contents.changes.items() if not n.startswith("unet.")}
    entries: dict[str, dict[str, Tensor]] = {}
    with applied(parts, [replace(contents, changes=changes)], [1.0], fuse=False):
        for start in range(0, len(texts), CAPTIONS_AT_ONCE):
            batch = texts[start : start + CAPTIONS_AT_ONCE]
            encoded = encode_captions(batch, tokenizers, encoders, CAPTIONS_AT_ONCE)
            for row, text in enumerate(batch):
                states, pooled = encoded.states[row], encoded.pooled[row]
                entries[prompt_key(text)] = {"states": states, "pooled": pooled}
    return entries
