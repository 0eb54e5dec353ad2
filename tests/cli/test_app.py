import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from rasengan_xl.cli import app


def rasengan(*arguments, **options):
    """Run the command as a process of its own."""
    command = (sys.executable, "-m", "rasengan_xl", *map(str, arguments))
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@pytest.fixture
def here(monkeypatch, capfd):
    """Run the command in this process, where the libraries are loaded, as if without a GPU."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["rasengan", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            app.main()
        stdout, stderr = capfd.readouterr()
        return subprocess.CompletedProcess(sys.argv, int(ended.value.code or 0), stdout, stderr)

    return run


VERBS = [
    "compare",
    "train",
    "generate",
    "verify",
    "export",
    "share",
    "report",
    "prepare",
    "plan",
    "recipes",
]


def test_help_names_every_verb_and_loads_nothing_heavy():
    answer = rasengan("--help")
    assert answer.returncode == 0
    assert all(verb in answer.stdout for verb in VERBS)
    code = "import sys, rasengan_xl.cli.app; sys.exit('torch' in sys.modules)"
    assert subprocess.run((sys.executable, "-c", code), check=False).returncode == 0


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb):
    answer = rasengan(verb, "--help")
    assert answer.returncode == 0
    assert "Usage" in answer.stdout


def small(tiny_model, picture_folder):
    return [
        f"--set=base_model={tiny_model}",
        f"--set=dataset.source={picture_folder}",
        "--set=dataset.resolution=32",
        "--set=dataset.shapes=square",
        "--set=dataset.held_out_minimum=3",
        "--set=training.steps=3",
        "--set=training.warmup_steps=0",
        "--set=evaluation.pictures=1",
    ]


@pytest.mark.slow
def test_a_run_is_trained_kept_and_drawn_with(tiny_model, picture_folder, tmp_path, here):
    options = [*small(tiny_model, picture_folder), "--out", tmp_path / "run"]
    trained = rasengan("train", "mini-lora", *options)
    assert trained.returncode == 0, trained.stderr
    again = here("train", "mini-lora", *options)
    assert again.returncode == 2
    assert "already holds something" in again.stderr
    out = tmp_path / "pictures"
    drawn = here(
        *("generate", tmp_path / "run", "--prompt", "a ninja", "--steps", 2, "--out", out),
        *("--memory", "low"),
    )
    assert drawn.returncode == 0, drawn.stderr
    pictures = sorted(file.name for file in out.iterdir())
    assert pictures == ["0000-grid.png", "0000-seed0-base.png", "0000-seed0-run.png"]


@pytest.fixture
def bad_inputs(tiny_model, picture_folder, tmp_path):
    """Commands that a user may get wrong, and what must be in the one line of the answer."""
    empty = tmp_path / "empty"
    empty.mkdir()
    uncaptioned = tmp_path / "uncaptioned"
    uncaptioned.mkdir()
    Image.new("RGB", (40, 40)).save(uncaptioned / "one.png")
    unreadable = tmp_path / "unreadable"
    unreadable.mkdir()
    (unreadable / "one.png").write_bytes(b"no picture")
    (unreadable / "one.txt").write_text("a ninja")
    good = small(tiny_model, picture_folder)
    out = ["--out", tmp_path / "out"]

    def train(*changes):
        return ["train", "mini-lora", *good, *(f"--set={c}" for c in changes), *out]

    return {
        "misspelt key": (train("adapter.rnak=1"), "did you mean 'rank'"),
        "wrong type": (train("training.steps=many"), "training.steps = 'many'"),
        "unknown recipe": (["train", "nothing", *out], "unknown recipe 'nothing'"),
        "unknown comparison": (["compare", "nothing", *out], "unknown recipe 'nothing'"),
        "missing model": (train("base_model=./nowhere"), "./nowhere"),
        "not a model": (train(f"base_model={empty}"), "model_index.json is missing"),
        "empty dataset": (train(f"dataset.source={empty}"), "empty"),
        "no caption": (train(f"dataset.source={uncaptioned}"), "one.png: no caption"),
        "unreadable": (train(f"dataset.source={unreadable}"), "one.png"),
        "no such layer": (train('adapter.targets=["to_x"]'), "'to_x' matches no layer"),
        "no cuda": (train("compute.device=cuda"), "sees no GPU"),
        "no run": (["generate", empty, "--prompt", "x"], "--base"),
        "no start": ([*train(), "--from", empty], "no adapter here"),
        "nothing to train": (train("training.steps=0"), "name it by adapter.start_from"),
        "weights of one": (
            ["export", empty, "--to", "kohya", "--weights", "1", *out],
            "of one, use --strength",
        ),
        "no run to share": (["share", empty, "--to", "a/b"], "holds no run"),
        "no comparison": (["report", empty], "comparison.json"),
        "bad size": (["generate", empty, "--prompt", "x", "--size", "33"], "size = '33'"),
    }


def assert_one_clear_line(mistake, answer, expected):
    assert answer.returncode == 2, (mistake, answer.stderr)
    lines = [line for line in answer.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, (mistake, answer.stderr)
    assert lines[0].startswith("error: "), (mistake, answer.stderr)
    assert expected in lines[0], (mistake, lines[0])


def test_each_mistake_is_one_clear_line_and_nothing_is_written(bad_inputs, here, tmp_path):
    for mistake, (command, expected) in bad_inputs.items():
        assert_one_clear_line(mistake, here(*command), expected)
        assert not (tmp_path / "out").exists(), mistake


@pytest.mark.slow
def test_the_libraries_add_nothing_to_the_line(bad_inputs, tmp_path):
    mistake = "no such layer"  # found when everything that talks has been loaded and used
    command, expected = bad_inputs[mistake]
    assert_one_clear_line(mistake, rasengan(*command), expected)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_run_that_can_be_continued(
    tiny_model, picture_folder, tmp_path, nursery, number, status
):
    run = tmp_path / "run"
    options = [*small(tiny_model, picture_folder), "--set=training.steps=400", "--out", run]
    process = nursery.start("train", "mini-lora", *options)
    deadline = time.monotonic() + 120
    while not (run / "steps.jsonl").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == status
    assert "continue with --resume" in stdout
    assert "Traceback" not in stderr
    assert {"checkpoints", "pytorch_lora_weights.safetensors", "summary.json"} <= {
        file.name for file in run.iterdir()
    }


def test_recipes_are_listed_shown_and_copied(tmp_path, here):
    listed = rasengan("recipes").stdout
    assert "qlora-aggressive" in listed
    assert "naruto-sdxl" in listed
    assert "[training]" in here("recipes", "show", "mini-base").stdout
    copied = here("recipes", "copy", "mini-lora", tmp_path / "mine.toml")
    assert copied.returncode == 0
    assert (tmp_path / "mine.toml").exists()
    unknown = here("recipes", "show", "minni-lora")
    assert unknown.returncode == 2
    assert "did you mean 'mini-lora'" in unknown.stderr
