import pytest

from rasengan_xl.errors import OutputError
from rasengan_xl.report.reading import read_comparison, read_losses


def test_a_comparison_is_read_as_it_was_written(rich_folder, rich_comparison):
    assert read_comparison(rich_folder) == rich_comparison


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "Invalid JSON"),
        (b"{", "Invalid JSON"),
        (b"\xff\xfe", "Invalid JSON"),
        (b"[]", "Input should be an object"),
        (b"{}", "name: Field required"),
    ],
)
def test_a_malformed_comparison_is_refused_in_one_line(tmp_path, content, complaint):
    (tmp_path / "comparison.json").write_bytes(content)
    with pytest.raises(OutputError) as refusal:
        read_comparison(tmp_path)
    message = str(refusal.value)
    assert str(tmp_path / "comparison.json") in message
    assert complaint in message
    assert "rasengan compare" in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["missing", "file.txt"])
def test_a_folder_that_is_none_is_refused(tmp_path, name):
    (tmp_path / "file.txt").touch()
    with pytest.raises(OutputError, match="not found"):
        read_comparison(tmp_path / name)


def test_a_comparison_that_is_a_folder_is_refused(tmp_path):
    (tmp_path / "comparison.json").mkdir()
    with pytest.raises(OutputError, match="cannot be read"):
        read_comparison(tmp_path)


def test_a_run_without_steps_has_no_losses(tmp_path):
    assert read_losses(tmp_path).losses == {}


def test_losses_are_in_order_and_the_last_of_a_repeated_step_counts(tmp_path):
    lines = ['{"step": 2, "loss": 0.2}', '{"step": 1, "loss": 0.1}', '{"step": 2, "loss": 0.3}']
    (tmp_path / "steps.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert list(read_losses(tmp_path).losses.items()) == [(1, 0.1), (2, 0.3)]


def test_lines_without_a_finite_loss_are_counted(tmp_path):
    lines = ['{"step": 1, "loss": 0.1}', '{"step": 2, "loss": NaN}', '{"step": 3, "lo']
    (tmp_path / "steps.jsonl").write_text("\n".join(lines), encoding="utf-8")
    history = read_losses(tmp_path)
    assert history.losses == {1: 0.1}
    assert history.left_out == 2
