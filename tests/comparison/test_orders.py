from pathlib import Path

import pytest

from rasengan_xl.comparison.orders import Examine, Subject
from rasengan_xl.comparison.parcels import pack, unpack
from rasengan_xl.config.comparison_settings import PictureSettings, ScoringSettings
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.runs.folder import RunFolder


@pytest.fixture
def examine(tmp_path):
    """Order a subject to draw, whatever the keys are called."""
    keys = {name: "key" for name in Examine.model_fields if name.endswith("_key")}
    subject = Subject(name="lora/seed-0", run="arms/lora/seed-0", on_full_base=False, key="key")
    return Examine(
        root=tmp_path / "here",
        settings=RunSettings(),
        pictures=PictureSettings(prompts=("a ninja",)),
        scoring=ScoringSettings(),
        subjects=(subject,),
        writes_reference=False,
        **keys,
    )


def test_to_draw_an_adapter_travels_with_its_settings_and_no_checkpoint(examine, tmp_path):
    run = RunFolder(examine.root / "arms" / "lora" / "seed-0")
    run.start(RunSettings(seed=7))
    run.adapter_file.write_bytes(b"adapter")
    run.checkpoints_folder.mkdir()
    run.checkpoint_file(4).write_bytes(bytes(1 << 20))
    run.steps_file.touch()
    with (tmp_path / "parcel").open("w+b") as parcel:
        parcel.writelines(pack(examine.root, examine.inputs))
        unpack(parcel, tmp_path / "there")
    arrived = RunFolder(tmp_path / "there" / run.path.relative_to(examine.root))
    assert arrived.read_settings().seed == 7
    assert {file for file in arrived.path.rglob("*") if file.is_file()} == {
        arrived.settings_file,
        arrived.adapter_file,
    }
    assert not any(Path(name).is_absolute() for name in examine.inputs)
