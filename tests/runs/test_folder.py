import pytest

from rasengan_xl.config.settings import RunSettings
from rasengan_xl.errors import OutputError
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.records import StepRecord, standard_error


def record(step):
    return StepRecord(
        step=step,
        loss=0.5,
        gradient_norm=None,
        learning_rate=1e-4,
        seconds=0.1,
        peak_memory_gib=1.0,
        skipped=True,
    )


def test_what_is_written_is_read_back(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.start(RunSettings(seed=3))
    folder.append(record(1))
    folder.append(record(2))
    assert folder.records() == [record(1), record(2)]
    assert folder.read_settings() == RunSettings(seed=3)


def test_a_line_cut_short_by_a_crash_is_left_out(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.start(RunSettings())
    folder.append(record(1))
    with folder.steps_file.open("a") as file:
        file.write('{"step": 2, "lo')
    assert folder.records() == [record(1)]


def test_a_used_folder_is_not_started_again(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.start(RunSettings())
    with pytest.raises(OutputError, match="--resume"):
        folder.start(RunSettings())


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(OutputError, match="is a file"):
        RunFolder(tmp_path / "run").check_unused()


def test_the_standard_error_of_known_values():
    assert standard_error([1.0, 2.0, 3.0, 4.0]) == pytest.approx(0.6454972)
    assert standard_error([1.0]) == 0.0
