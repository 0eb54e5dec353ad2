import pytest

from rasengan_xl.errors import AdapterError
from rasengan_xl.generation.ground import find_common_ground, find_ground, read_run


def test_an_adapter_file_alone_does_not_tell_its_base(lora_run, tmp_path):
    lone = tmp_path / "adapter.safetensors"
    lone.write_bytes(lora_run.adapter_file.read_bytes())
    with pytest.raises(AdapterError, match="--base"):
        find_ground(lone, None)
    assert find_ground(lone, "mini").base_model == "mini"
    with pytest.raises(AdapterError, match="is no run"):
        read_run(lone)


def test_a_lone_file_is_drawn_on_the_base_of_the_run_beside_it(lora_run, tiny_model, tmp_path):
    lone = tmp_path / "adapter.safetensors"
    lone.write_bytes(lora_run.adapter_file.read_bytes())
    grounds = find_common_ground([lone, lora_run.path], None)
    assert {ground.base_model for ground in grounds} == {str(tiny_model)}


def test_adapters_of_different_bases_need_one_named(lora_run, tmp_path):
    from rasengan_xl.config.settings import RunSettings
    from rasengan_xl.runs.folder import RunFolder

    other = RunFolder(tmp_path / "other")
    other.start(RunSettings(base_model="mini"))
    with pytest.raises(AdapterError, match="was trained on mini.*--base"):
        find_common_ground([lora_run.path, other.path], None)
    assert len(find_common_ground([lora_run.path, other.path], "mini")) == 2


def test_no_adapter_needs_a_base():
    with pytest.raises(AdapterError, match="--base"):
        find_common_ground([], None)
    assert find_common_ground([], "mini")[0].base_model == "mini"


@pytest.mark.parametrize("base", [None, "mini"])
def test_what_is_not_there_is_said_not_to_be_there(base, tmp_path):
    with pytest.raises(AdapterError, match="no such file or folder"):
        find_common_ground([tmp_path / "runs" / "mien"], base)
