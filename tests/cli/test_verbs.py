from rasengan_xl.cli.console import LineBoard, describe_step
from rasengan_xl.runs.records import StageProgress, StepRecord

STEP = StepRecord(
    step=1,
    loss=0.25,
    gradient_norm=1.0,
    learning_rate=1e-4,
    seconds=0.5,
    idle_seconds=0.1,
    peak_memory_gib=1.5,
)


def test_a_step_is_shown_with_loss_time_and_memory():
    assert describe_step(STEP) == "loss 0.250 0.50 s/step 1.50 GiB"


def test_without_a_terminal_progress_comes_as_a_line_now_and_then(capsys):
    seconds = iter([0.0, 1.0, 11.0, 12.0, 13.0])
    board = LineBoard(clock=lambda: next(seconds))
    for done in (1, 2, 3, 4):
        board.show(StageProgress(stage="encode", done=done, total=9), "prepare")
    board.show(STEP, "lora", steps=5)
    assert capsys.readouterr().out.splitlines() == [
        "prepare: encode 1/9",
        "prepare: encode 3/9",
        "lora: train 1/5 loss 0.250 0.50 s/step 1.50 GiB",
    ]


def test_what_must_be_told_is_told_once(capsys):
    told = StageProgress(stage="plan", done=1, total=1, note="2 skipped (too small)")
    board = LineBoard()
    board.show(told, "lora")
    board.show(told, "dora")
    board.show(StageProgress(stage="plan", done=1, total=1, note="another"), "dora")
    said = capsys.readouterr().out
    assert said.count("2 skipped (too small)") == 1
    assert "another" in said
