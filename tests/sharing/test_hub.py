import warnings

import pytest
from huggingface_hub import constants
from PIL import Image
from typer.testing import CliRunner

import rasengan_xl.cli.sharing as command
from rasengan_xl.cli.app import app
from rasengan_xl.errors import HubError, OutputError, RasenganError
from rasengan_xl.runs.folder import RunFolder

from .fake_hub import Hub, Repository

# Of huggingface_hub's own call of its HTTP client, when it uploads a large file.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

UPLOADED = {
    "README.md",
    "pytorch_lora_weights.safetensors",
    "best/pytorch_lora_weights.safetensors",
    "best/best.json",
    "settings.json",
    "summary.json",
    "samples/001-seed1-base.png",
    "samples/001-seed1-adapted.png",
}


def share(run: RunFolder, *options: str, to: str = "alice/ninja", answer: str = ""):
    arguments = ["share", str(run.path), "--to", to, *options]
    return CliRunner().invoke(app, arguments, input=answer)


@pytest.fixture
def shared(run: RunFolder, add_sample) -> RunFolder:
    add_sample(run, 1)
    return run


@pytest.fixture
def asked_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_can_be_asked", lambda: True)


def test_all_arrives_byte_by_byte_with_one_commit(hub: Hub, shared: RunFolder):
    answer = share(shared, "--yes")
    assert answer.exit_code == 0, answer.exception
    there = hub.repositories["alice/ninja"]
    assert not there.private
    assert len(there.commits) == 2  # the first one is that of an empty repository
    assert set(there.files) - {".gitattributes"} == UPLOADED
    for name in ("pytorch_lora_weights.safetensors", "best/best.json", "summary.json"):
        assert there.files[name] == (shared.path / name).read_bytes()
    assert f"Uploaded: {hub.url}/alice/ninja" in answer.stdout
    assert 'load_lora_weights("alice/ninja"' in there.files["README.md"].decode()


def test_what_is_uploaded_names_no_place_of_this_machine(
    hub: Hub, shared: RunFolder, tiny_model, picture_folder, tmp_path
):
    answer = share(shared, "--yes")
    for name, content in hub.repositories["alice/ninja"].files.items():
        for place in (tiny_model.parent, picture_folder.parent, tmp_path):
            assert str(place).encode() not in content, name
    settings = hub.repositories["alice/ninja"].files["settings.json"].decode()
    assert '"source": "pictures"' in settings.replace(picture_folder.name, "pictures")
    assert f"dataset.source = '{picture_folder.name}' instead of '{picture_folder}'" in (
        answer.stdout
    )
    uploaded = hub.repositories["alice/ninja"].files["samples/001-seed1-adapted.png"]
    (shared.path / "uploaded.png").write_bytes(uploaded)
    here = Image.open(shared.samples_folder / "001-seed1-adapted.png")
    assert Image.open(shared.path / "uploaded.png").tobytes() == here.tobytes()


@pytest.mark.usefixtures("asked_at_a_terminal")
@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_without_a_yes_nothing_is_written(hub: Hub, shared: RunFolder, answer: str):
    said = share(shared, answer=answer)
    assert said.exit_code == 0
    assert "Nothing was uploaded." in said.stdout
    assert hub.written == []
    assert hub.repositories == {}


@pytest.mark.usefixtures("asked_at_a_terminal")
def test_before_it_asks_it_says_what_goes_where_and_as_whom(hub: Hub, shared: RunFolder):
    said = share(shared, "--private", answer="y\n")
    before, _, after = said.stdout.partition("Upload 8 files")
    assert all(name in before for name in UPLOADED)
    assert "a new private repository, as alice" in before
    assert "to the private alice/ninja?" in after
    assert hub.repositories["alice/ninja"].private


def test_without_a_terminal_it_refuses(hub: Hub, shared: RunFolder):
    said = share(shared, answer="y\n")
    assert isinstance(said.exception, OutputError)
    assert "--yes" in str(said.exception)
    assert hub.written == []


def test_a_dry_run_says_all_and_writes_nothing(hub: Hub, shared: RunFolder):
    said = share(shared, "--dry-run", "--yes")
    assert all(name in said.stdout for name in UPLOADED)
    assert "as alice" in said.stdout
    assert hub.written == []


@pytest.mark.usefixtures("asked_at_a_terminal")
def test_files_that_are_replaced_are_named_and_strangers_stay(hub: Hub, shared: RunFolder):
    there = Repository(files={"README.md": b"mine", "other.txt": b"mine too"})
    there.commit()
    hub.repositories["alice/ninja"] = there
    said = share(shared, answer="n\n")
    assert "replaces the one there" in said.stdout
    assert "1 other files that lie there stay: other.txt" in said.stdout
    assert "replacing 1 there" in said.stdout
    assert there.files["README.md"] == b"mine"
    share(shared, answer="y\n")
    assert there.files["README.md"] != b"mine"
    assert there.files["other.txt"] == b"mine too"
    assert "/api/repos/create" not in hub.written
    with warnings.catch_warnings(action="ignore"):
        again = share(shared, answer="y\n")
    assert "All of it was there already" in again.stdout


def test_what_came_there_since_it_was_looked_at_is_not_overwritten(
    hub: Hub, shared: RunFolder, monkeypatch: pytest.MonkeyPatch
):
    there = hub.repositories["alice/ninja"] = Repository(files={"README.md": b"mine"})
    there.commit()

    def somebody_else_commits(*_: object) -> bool:
        there.files["README.md"] = b"newer"
        there.commit()
        return True

    monkeypatch.setattr(command, "_ask", somebody_else_commits)
    said = share(shared)
    assert "something new there in the meantime" in str(said.exception)
    assert there.files["README.md"] == b"newer"


@pytest.mark.parametrize(
    ("path", "status", "expected"),
    [
        ("whoami", 401, "does not accept the token; log in with `hf auth login`"),
        ("whoami", 503, "out of order (503)"),
        ("whoami", 429, "wants fewer requests"),
        ("/api/models", 403, "does not let this token"),
        ("repos/create", 403, "does not let this token write there"),
        ("repos/create", 404, "check the owner's name"),
        ("repos/create", 418, "refuses (418"),
        ("/lfs/", 403, "does not let this token write there"),
        ("commit/main", 403, "write there; log in with `hf auth login`"),
    ],
)
def test_what_the_hub_answers_is_one_line_with_a_remedy(
    hub: Hub, shared: RunFolder, path: str, status: int, expected: str
):
    hub.answers[path] = status
    said = share(shared, "--yes")
    assert isinstance(said.exception, HubError)
    assert expected in str(said.exception)
    assert "\n" not in str(said.exception)
    assert ("made, and empty" in str(said.exception)) == (path in {"commit/main", "/lfs/"})


def test_a_hub_out_of_reach_is_one_line(hub: Hub, shared: RunFolder, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    assert "cannot be reached" in str(share(shared, "--yes").exception)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in str(share(shared, "--yes").exception)


def test_a_dry_run_without_a_token_lists_the_files_and_asks_nobody(
    hub: Hub, shared: RunFolder, monkeypatch
):
    monkeypatch.delenv("HF_TOKEN")
    said = share(shared, "--dry-run")
    assert said.exit_code == 0, said.exception
    assert all(name in said.stdout for name in UPLOADED)
    assert "without a token the hub does not say" in said.stdout
    assert hub.asked == []


def test_without_a_token_nothing_is_asked_of_the_hub(hub: Hub, shared: RunFolder, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    said = share(shared, "--yes")
    assert "hf auth login" in str(said.exception)
    assert hub.asked == []


def test_a_licence_that_the_hub_does_not_know_leaves_no_empty_repository(
    hub: Hub, shared: RunFolder
):
    said = share(shared, "--yes", "--license", "my own")
    assert "--license" in str(said.exception)
    assert '"license" must be one of the list' in str(said.exception)
    assert hub.repositories == {}
    assert share(shared, "--yes", "--license", "cc-by-4.0").exit_code == 0
    card = hub.repositories["alice/ninja"].files["README.md"].decode()
    assert "license: cc-by-4.0\n" in card


@pytest.mark.parametrize("to", ["ninja", "a/b/c", "alice/", "alice/my style", "../x", ""])
def test_a_bad_repository_is_refused_before_anything_is_asked(hub: Hub, shared: RunFolder, to: str):
    said = share(shared, "--yes", to=to)
    assert isinstance(said.exception, HubError)
    assert "--to" in str(said.exception)
    assert "\n" not in str(said.exception)
    assert hub.asked == []


def test_a_public_repository_does_not_become_private_by_saying_so(hub: Hub, shared: RunFolder):
    hub.repositories["alice/ninja"] = Repository()
    hub.repositories["alice/ninja"].commit()
    said = share(shared, "--yes", "--private")
    assert "public" in str(said.exception)
    assert hub.written == []


def test_a_card_is_written_even_if_nothing_can_be_drawn(
    run: RunFolder, change_settings, capsys: pytest.CaptureFixture[str]
):
    change_settings(run, dataset={"source": str(run.path / "gone")})
    command.finish_with_card(run, samples=2)
    said = capsys.readouterr().out
    assert "Not all samples were drawn" in said
    assert f"Its card is {run.card_file}" in said
    assert run.card_file.exists()


def test_a_folder_without_a_run_is_one_line(hub: Hub, tmp_path):
    said = share(RunFolder(tmp_path), "--yes")
    assert isinstance(said.exception, RasenganError)
    assert "holds no run" in str(said.exception)
