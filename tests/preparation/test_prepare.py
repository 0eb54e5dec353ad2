import json

import torch

from rasengan_xl.preparation.prepare import prepare_dataset
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.model_folder import find_model

from ..exhaust import exhaust


def test_a_folder_is_prepared_once_and_accounted_for_every_time(settings, tmp_path):
    run = settings(seed=11)
    model = find_model(run.base_model, None)
    compute = Compute(device=torch.device("cpu"), dtype=torch.float32)
    first, second = (
        exhaust(prepare_dataset(run, model, compute, tmp_path / "out")) for _ in range(2)
    )
    assert first.summary == second.summary
    assert (first.summary.found, first.summary.used, first.summary.held_out) == (12, 12, 3)
    assert second.crops_encoded.encoded == 0
    assert second.captions_encoded.encoded == 0
    assert json.loads(first.files.summary.read_text())["trained"] == 9
    assert [sheet.name for sheet in first.files.sheets] == ["32x32.png"]
    assert len(first.files.pictures.read_text().splitlines()) == 12
