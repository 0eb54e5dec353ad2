"""Check a dataset, encode it once, and write down what happened to each picture."""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from rasengan_xl.config.settings import RunSettings
from rasengan_xl.dataset.encoded import EncodedDataset, encode_dataset
from rasengan_xl.preparation.account import take_account
from rasengan_xl.preparation.files import AccountFiles, check_account_folder, write_account
from rasengan_xl.preparation.long_captions import measure_captions
from rasengan_xl.preparation.records import AccountSummary
from rasengan_xl.runs.records import EncodingFacts, StageProgress
from rasengan_xl.sdxl.components import load_tokenizers
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.model_folder import TOKENIZERS, ModelFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """A dataset that is ready to train on."""

    summary: AccountSummary
    files: AccountFiles
    captions_encoded: EncodingFacts
    crops_encoded: EncodingFacts


def prepare_dataset(
    settings: RunSettings, model: ModelFolder, compute: Compute, folder: Path
) -> Generator[StageProgress, None, Preparation]:
    """Encode a dataset and write its account into a folder.

    Raises:
        DatasetError: The dataset is unusable.
        OutputError: The folder holds something other than an earlier account.
    """
    check_account_folder(folder)
    dataset = yield from encode_dataset(settings, model, compute)
    files, summary = yield from account_for(dataset, model, settings.dataset.background, folder)
    return Preparation(
        summary=summary,
        files=files,
        captions_encoded=dataset.captions_encoded,
        crops_encoded=dataset.crops_encoded,
    )


def account_for(
    dataset: EncodedDataset, model: ModelFolder, background: str, folder: Path
) -> Generator[StageProgress, None, tuple[AccountFiles, AccountSummary]]:
    """Write what happened to each picture of an encoded dataset."""
    yield StageProgress(stage="look for duplicates and long captions", done=0, total=1)
    captions = measure_captions(dataset.plan.used, load_tokenizers(model), TOKENIZERS)
    account = take_account(dataset.source, dataset.plan, dataset.held_out_plan, captions)
    yield StageProgress(stage="look for duplicates and long captions", done=1, total=1)
    files = yield from write_account(folder, account, dataset.plan, background)
    return files, account.summary
