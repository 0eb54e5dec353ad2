from pathlib import Path

import huggingface_hub
import pytest

from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.sharing.licences import find_base_licence, find_data_licence

from .conftest import MACHINE, dataset_facts, model_facts


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nlicense: cc-by-4.0\n---\n", "cc-by-4.0"),
        ("---\nlicense: [a, b]\n---\n", "unknown"),
        ("---\nlicense: {\n---\n", "unknown"),
        ("# no front matter", "unknown"),
        (None, "unknown"),
    ],
)
def test_a_licence_is_what_the_card_on_this_machine_says_or_unknown(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, card, expected: str
):
    file = tmp_path / "model" / "README.md"
    file.parent.mkdir()
    if card is not None:
        file.write_text(card)
    run.write_origin(MACHINE, dataset_facts("some/set", "a" * 40), model_facts(str(file.parent)))
    assert find_base_licence(run).name == expected
    cached = str(file) if card is not None else None
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: cached)
    assert find_data_licence(run).name == expected


def test_pictures_of_the_users_own_have_no_licence_that_we_know(run: RunFolder):
    assert find_data_licence(run).name == "unknown"
    run.write_origin(MACHINE, dataset_facts("mini"), model_facts("mini"))
    assert find_data_licence(run).name == "apache-2.0"
    assert find_base_licence(run).name == "apache-2.0"
