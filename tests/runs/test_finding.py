from rasengan_xl.config.settings import RunSettings
from rasengan_xl.runs.finding import find_run, folder_around
from rasengan_xl.runs.folder import RunFolder


def test_a_run_is_found_by_its_folder_and_by_each_of_its_adapters(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.start(RunSettings(base_model="mini"))
    for known in (run.path, run.adapter_file, run.best_adapter_file, run.checkpoint_file(3)):
        known.parent.mkdir(parents=True, exist_ok=True)
        found = find_run(known)
        assert found is not None
        assert found.path.resolve() == run.path.resolve()


def test_a_file_of_no_run_has_a_folder_around_it_and_no_run(tmp_path):
    file = tmp_path / "theirs.safetensors"
    assert folder_around(file).path == tmp_path.resolve()
    assert find_run(file) is None
