from pathlib import Path

import pytest

from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.sharing.places import find_origins, hide_in_text, hide_places, last_part

from .conftest import MACHINE, dataset_facts, model_facts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/alice/pictures", "pictures"),
        ("/home/alice/pictures/", "pictures"),
        ("~/secret/pictures", "pictures"),
        ("C:\\Users\\alice\\pictures", "pictures"),
        ("read /home/alice/a.png, then /mnt/disk/b.png.", "read a.png, then b.png."),
        ("file:///home/alice/a.png", "a.png"),
        ('{"base": "/home/alice/model"}', '{"base": "model"}'),
        ("https://huggingface.co/a/b/c", "https://huggingface.co/a/b/c"),
        ("stabilityai/stable-diffusion-xl-base-1.0", "stabilityai/stable-diffusion-xl-base-1.0"),
        ("0.5 s/step, 3/4 of a/b/c", "0.5 s/step, 3/4 of a/b/c"),
        ("on a bed / on a chair", "on a bed / on a chair"),
    ],
)
def test_of_an_absolute_path_the_last_part_is_left(text: str, expected: str):
    assert hide_in_text(text, {}) == expected


def test_a_known_place_is_hidden_even_with_spaces_in_its_name():
    known = {"/home/al ice/my model": "my model", "models/own": "own"}
    assert hide_in_text("loaded /home/al ice/my model: well", known) == "loaded my model: well"
    assert hide_in_text("models/own", known) == "own"
    nested = {"a": [{"base": "models/own"}, 1, None], "/home/alice/x": True}
    assert hide_places(nested, known) == {"a": [{"base": "own"}, 1, None], "x": True}


def test_an_address_keeps_no_key_of_its_query():
    assert last_part("https://bob:pw@host/data/pictures.tar?token=abc") == "pictures.tar"
    assert last_part("s3://bucket/pictures/") == "pictures"
    assert last_part("/") == "local"


def test_only_what_was_pinned_on_the_hub_keeps_its_whole_name(tmp_path: Path):
    folder = RunFolder(tmp_path)
    folder.write_origin(MACHINE, dataset_facts("my/pictures"), model_facts("own/model"))
    local = find_origins(folder)
    assert (local.base_model, local.dataset) == ("model", "pictures")
    folder.write_origin(MACHINE, dataset_facts("my/set", "c" * 40), model_facts("own/sdxl", "d"))
    public = find_origins(folder)
    assert (public.base_model, public.dataset) == ("own/sdxl", "my/set")
    folder.write_origin(MACHINE, dataset_facts("mini"), model_facts("mini"))
    assert find_origins(folder).base_is_public
