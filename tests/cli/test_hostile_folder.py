"""The commands on folders as they lie about: all adds up, and nothing ends in a traceback."""

import json
import os
import signal
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rasengan_xl.cli import app
from rasengan_xl.sources.names import printable

from ..hostile_folder import (
    BAD_PICTURES,
    BAD_WORDS,
    IGNORED,
    OUT_OF_PLACE,
    PNG,
    USED,
    WORDS,
    encoded,
    fill_hostile_folder,
    noise,
    png_that_claims,
    put,
)
from ..nursery import Nursery

PICTURES = {".png", ".jpg", ".webp", ".gif", ".heic", ".svg"}


@dataclass(frozen=True)
class Answer:
    """What a command came to."""

    status: int
    shown: str
    error: str

    @property
    def one_error(self) -> str:
        """The only line of a mistake of the user's."""
        assert (self.status, "Traceback" in self.error) == (2, False), self.error
        (line,) = [line for line in self.error.splitlines() if line.startswith("error: ")]
        return line


Run = Callable[..., Answer]


def arguments(verb: str, model: Path, source: object, out: Path, *more: str) -> list[str]:
    return [
        *(verb, "mini-lora", "--out", str(out)),
        f"--set=base_model={model}",
        f"--set=dataset.source={source}",
        "--set=dataset.resolution=32",
        "--set=dataset.shapes=square",
        "--set=dataset.held_out_minimum=2",
        "--set=compute.device=cpu",
        "--set=training.steps=2",
        "--set=training.warmup_steps=0",
        "--set=evaluation.pictures=1",
        *more,
    ]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has its own cache, and leaves the user's alone."""
    import datasets

    folder = tmp_path_factory.mktemp("own-cache")
    monkeypatch.setenv("RASENGAN_CACHE", str(folder))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "hugging-face")
    return folder


@pytest.fixture
def run(tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> Run:
    """Run a verb as the command would: `run("prepare", FOLDER, OUT)`."""

    def run(verb: str, source: object, out: Path, *more: str) -> Answer:
        told = arguments(verb, tiny_model, source, out, *more)
        monkeypatch.setattr(sys, "argv", ["rasengan", *told])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            app.main()
        shown, error = capsys.readouterr()
        return Answer(int(ended.value.code or 0), shown, error)

    return run


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "hostile [folder] 忍"
    folder.mkdir()
    monkeypatch.chdir(folder)
    fill_hostile_folder(folder)
    put(folder, "closed/inside.png", PNG)
    listing = os.scandir

    def refuse(path: Path) -> object:  # As root, no bit forbids anything.
        if not isinstance(path, int) and Path(path) == folder / "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", refuse)
    return folder


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """Six pictures that nothing is wrong with."""
    folder = tmp_path / "good"
    for number in range(6):
        picture = encoded(noise(size=(40 + number, 40)))
        put(folder, f"{number}.png", picture, f"ninja {number}".encode())
    return folder


def list_pictures(folder: Path) -> list[str]:
    """List by other means than the program's whatever is called a picture."""
    found: list[str] = []
    for place, _, names in os.walk(folder):
        paths = [os.path.relpath(Path(place, name), folder) for name in names]
        found += [
            path
            for path in paths
            if Path(path).suffix.lower() in PICTURES
            and not any(part.startswith(".") for part in Path(path).parts)
        ]
    return found


def read_account(out: Path) -> tuple[dict[str, dict], dict]:
    lines = (out / "pictures.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["number"] for record in records] == list(range(1, len(records) + 1))
    by_name = {record["name"]: record for record in records}
    assert len(by_name) == len(records)
    return by_name, json.loads((out / "summary.json").read_text())


def prepare(run: Run, source: Path, out: Path) -> Path:
    answer = run("prepare", source, out)
    assert answer.status == 0, answer.error
    return out


def test_everything_in_a_hostile_folder_is_used_or_skipped_and_told(
    run: Run, hostile: Path, tmp_path: Path
):
    kinds = (*USED, *WORDS, *BAD_WORDS, *BAD_PICTURES, *IGNORED, *OUT_OF_PLACE)
    assert len(set(kinds)) >= 40
    out = tmp_path / "out"
    answer = run("prepare", hostile, out)
    assert (answer.status, answer.error) == (0, "")
    records, summary = read_account(out)

    # What is closed counts as one: nobody can say how many pictures are in it.
    assert set(records) == {*map(printable, list_pictures(hostile)), "closed"}
    reasons = {f"{name}.png": reason for name, (_, reason) in BAD_WORDS.items()}
    reasons |= {name: reason for name, (_, reason) in BAD_PICTURES.items()}
    reasons |= dict.fromkeys(OUT_OF_PLACE, "no regular file")
    reasons |= dict.fromkeys(("one pixel.png", "tall.png"), "too small")
    reasons |= {"piped words.png": "unreadable caption", "closed": "unreadable folder"}
    reasons["a disk.png"] = "unreadable file"
    reasons["header only.jpg"] = records["header only.jpg"]["reason"]  # Pillow's choice
    skipped = {name: one for name, one in records.items() if one["outcome"] == "skipped"}
    assert {name: one["reason"] for name, one in skipped.items()} == reasons
    assert all(
        one["detail"] and not one["detail"].startswith(name) for name, one in skipped.items()
    )

    outcomes = Counter(one["outcome"] for one in records.values())
    assert summary["found"] == len(records) == summary["used"] + summary["skipped"]
    assert summary["used"] == outcomes["trained"] + outcomes["held out"]
    assert (summary["trained"], summary["held_out"]) == (outcomes["trained"], outcomes["held out"])
    assert summary["skipped_by_reason"] == Counter(reasons.values())
    told = " ".join(answer.shown.split())
    assert all(f"{reason} │ {n} │" in told for reason, n in summary["skipped_by_reason"].items())
    assert len((out / "summary.json").read_bytes()) < 20_000  # ten thousand words are not repeated
    assert [sheet.name for sheet in (out / "sheets").iterdir()] == ["32x32.png"]


def test_a_hostile_folder_is_encoded_once_and_trained_on_to_the_end(
    run: Run, hostile: Path, tmp_path: Path
):
    accounts = [read_account(prepare(run, hostile, tmp_path / name)) for name in "ab"]
    assert accounts[0] == accounts[1]
    trained = run("train", hostile, tmp_path / "run")
    assert trained.status == 0, trained.error
    assert "\nencode" not in trained.shown
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "finished"
    facts = json.loads((tmp_path / "run" / "dataset.json").read_text())
    summary = accounts[0][1]
    for ours, theirs in (
        ("found", "found"),
        ("trained", "train"),
        ("held_out", "held_out"),
        ("skipped_by_reason", "skipped"),
        ("ignored_files", "ignored_files"),
    ):
        assert facts[theirs] == summary[ours]


def damaged_parquet(place: Path, damage: Callable[[bytes], bytes]) -> Path:
    pictures = [encoded(noise(size=(40 + number, 40))) for number in range(50)]
    table = pa.table({"image": pictures, "text": ["a ninja"] * 50})
    sound = place / "sound"
    pq.write_table(table, sound, compression="snappy", use_dictionary=False)
    file = place / "train.parquet"
    file.write_bytes(damage(sound.read_bytes()))
    return file


def damaged_tar(place: Path, damage: Callable[[bytes], bytes]) -> Path:
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for number in range(4):
            for ending, content in (("png", PNG), ("txt", b"a ninja")):
                member = tarfile.TarInfo(f"{number}.{ending}")
                member.size = len(content)
                archive.addfile(member, BytesIO(content))
    file = place / "train.tar"
    file.write_bytes(damage(packed.getvalue()))
    return file


def garble(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(64) + content[middle + 64 :]


def without_end(content: bytes) -> bytes:
    return content.rstrip(b"\0")


DAMAGE = {
    "half": lambda content: content[: len(content) // 2],
    "nothing": lambda _: b"",
    "text": lambda _: b"I am no shard",
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("shard", [damaged_parquet, damaged_tar])
def test_a_damaged_shard_is_one_line_that_names_it(
    run: Run, tmp_path: Path, shard: Callable[..., Path], damage: str
):
    file = shard(tmp_path, DAMAGE[damage])
    line = run("prepare", file, tmp_path / "out").one_error
    assert f"{file.name}: cannot be read" in line
    assert not (tmp_path / "out").exists()


def test_an_archive_without_its_end_is_one_line_that_names_it(run: Run, tmp_path: Path):
    file = damaged_tar(tmp_path, without_end)
    assert "train.tar: cannot be read" in run("prepare", file, tmp_path / "out").one_error


def test_garbled_pictures_in_a_parquet_file_are_counted(run: Run, tmp_path: Path):
    file = damaged_parquet(tmp_path, garble)
    summary = read_account(prepare(run, file, tmp_path / "out"))[1]
    assert summary["found"] == 50
    assert summary["skipped_by_reason"] == {"damaged picture": summary["skipped"]}


def test_nothing_but_bombs_is_one_line(run: Run, tmp_path: Path):
    for number in range(3):
        put(tmp_path / "bombs", f"{number}.png", png_that_claims(60_000, 60_000))
    line = run("prepare", tmp_path / "bombs", tmp_path / "out").one_error
    assert "3 too many pixels" in line
    assert line.count("0.png") == 1


def test_a_half_written_shard_of_the_cache_is_told_and_encoded_anew(
    run: Run, good: Path, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    assert run("prepare", good, tmp_path / "out").status == 0
    (shard,) = (cache / "latents").rglob("*.safetensors")
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    (shard.parent / "killed.safetensors.1.part").write_bytes(whole[:100])
    answer = run("prepare", good, tmp_path / "out")
    assert answer.status == 0, answer.error
    assert f"{shard}: damaged, and removed" in caplog.text
    told = " ".join(answer.shown.split())
    assert "crops encoded │ 6 │ of 6; 0 were there already" in told
    assert "captions encoded │ 0 │" in told
    assert "damaged files │ 1 │" in told
    assert shard.read_bytes() == whole
    assert not list(cache.rglob("*.part"))


def test_one_changed_caption_is_one_entry_to_encode(run: Run, good: Path, tmp_path: Path):
    assert run("prepare", good, tmp_path / "out").status == 0
    (good / "3.txt").write_text("another ninja")
    told = " ".join(run("prepare", good, tmp_path / "out").shown.split())
    assert "captions encoded │ 1 │ of 7; 6 were there already" in told
    assert "crops encoded │ 0 │ of 6; 6 were there already" in told


def test_a_picture_that_changes_while_it_is_encoded_is_not_kept_as_the_old_one(
    run: Run, good: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from rasengan_xl.dataset import encoded as module

    split = module.split_held_out

    def change_then_split(*told: object) -> object:
        (good / "2.png").write_bytes(encoded(noise(size=(50, 60))))
        return split(*told)

    monkeypatch.setattr(module, "split_held_out", change_then_split)
    line = run("prepare", good, tmp_path / "out").one_error
    assert "2.png: has changed since it was looked at: start again" in line


def test_a_cache_that_cannot_be_written_is_one_line(
    run: Run, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RASENGAN_CACHE", "/dev/null/cache")
    assert "/dev/null/cache" in run("prepare", good, tmp_path / "out").one_error


@pytest.mark.slow
def test_two_at_once_share_the_work_and_end_well(
    nursery: Nursery, tiny_model: Path, good: Path, tmp_path: Path
):
    told = arguments("prepare", tiny_model, good, tmp_path / "out")
    both = [nursery.start(*told), nursery.start(*told)]
    shown = ["".join(process.communicate(timeout=120)) for process in both]
    assert [process.returncode for process in both] == [0, 0], shown
    words = " ".join(" ".join(shown).split())
    for entries, asked in (("captions", 7), ("crops", 6)):
        once = f"{entries} encoded │ {asked} │ of {asked}; 0 were"
        ready = f"{entries} encoded │ 0 │ of {asked}; {asked} were"
        assert (words.count(once), words.count(ready)) == (1, 1)
    assert len(read_account(tmp_path / "out")[0]) == 6
    assert not list((tmp_path / "out").rglob("*.part"))


@pytest.mark.slow
def test_an_interrupted_preparation_goes_on_where_it_was(
    run: Run, nursery: Nursery, tiny_model: Path, cache: Path, tmp_path: Path
):
    folder = tmp_path / "many"
    for number in range(400):
        put(folder, f"{number}.png", encoded(noise(size=(40 + number, 300))))
    process = nursery.start(*arguments("prepare", tiny_model, folder, tmp_path / "out"))
    while "\nencode pictures" not in process.stdout.read_text():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    rest = "".join(process.communicate(timeout=60))
    assert process.returncode == 130, rest
    assert "Traceback" not in rest
    assert not list(cache.rglob("*.part"))
    answer = run("prepare", folder, tmp_path / "out")
    assert answer.status == 0, answer.error
    told = " ".join(answer.shown.split())
    assert "captions encoded │ 0 │" in told
    assert "crops encoded │ 400 │" not in told  # What was encoded before has been kept.
    assert read_account(tmp_path / "out")[1]["used"] == 400
