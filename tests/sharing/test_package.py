import pytest

from rasengan_xl.errors import OutputError
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.verification import Check
from rasengan_xl.sharing.card import write_card
from rasengan_xl.sharing.package import pack_run

from .conftest import SUMMARY, write_verification


def test_no_log_checkpoint_or_machine_goes_up(run: RunFolder):
    run.steps_file.write_text("{}\n")
    write_verification(run)
    (run.path / "notes.txt").write_text("private")
    names = {each.name for each in pack_run(run, "alice/ninja").uploads}
    assert names == {
        "README.md",
        "pytorch_lora_weights.safetensors",
        "best/pytorch_lora_weights.safetensors",
        "best/best.json",
        "settings.json",
        "summary.json",
        "verification.json",
    }


def test_the_uploaded_settings_are_those_of_a_run(run: RunFolder, tmp_path):
    package = pack_run(run, "alice/ninja")
    settings = next(each for each in package.uploads if each.name == "settings.json")
    assert isinstance(settings.content, bytes)
    assert {change.split(" = ")[0] for change in settings.changes} == {
        "base_model",
        "dataset.source",
    }
    there = RunFolder(tmp_path / "there")
    there.path.mkdir()
    there.settings_file.write_bytes(settings.content)
    begun, read = run.read_settings(), there.read_settings()
    assert read.adapter == begun.adapter
    assert read.training == begun.training


def _with(run: RunFolder, table: str, **changes: object) -> None:
    settings = run.read_settings()
    changed = getattr(settings, table).model_copy(update=changes)
    run.keep_settings(settings.model_copy(update={table: changed}))


def test_the_adapter_that_a_run_started_from_is_told_without_its_place(run: RunFolder):
    _with(run, "adapter", start_from="secret/their.safetensors", start_digest="1234")
    contents = {each.name: each.content for each in pack_run(run, "alice/ninja").uploads}
    assert b"secret" not in contents["settings.json"]
    write_card(run)
    assert "their.safetensors (1234)" in run.card_file.read_text()
    assert "secret" not in run.card_file.read_text()


def test_an_adapter_that_was_only_given_is_not_shared(run: RunFolder):
    _with(run, "adapter", start_from="their.safetensors")
    _with(run, "training", steps=0)
    with pytest.raises(OutputError, match="was given, not trained here"):
        pack_run(run, "alice/ninja")


def test_a_run_that_failed_or_was_broken_off_goes_up_only_if_insisted_on(run: RunFolder):
    write_verification(
        run,
        Check(name="keys", status="failed", detail=""),
        Check(name="x", status="passed", detail=""),
    )
    with pytest.raises(
        OutputError, match=r"failed its verification \(keys\), or share it --anyway"
    ):
        pack_run(run, "alice/ninja")
    run.verification_file.unlink()
    run.write_summary(SUMMARY.model_copy(update={"status": "interrupted"}))
    with pytest.raises(OutputError, match="broken off"):
        pack_run(run, "alice/ninja")
    assert any("broken off" in note for note in pack_run(run, "alice/ninja", anyway=True).notes)
    run.summary_file.unlink()
    with pytest.raises(OutputError, match="no adapter yet"):
        pack_run(run, "alice/ninja", anyway=True)


def test_a_card_that_was_edited_goes_up_as_it_is(run: RunFolder, tmp_path):
    card = write_card(run)
    card.write_text(card.read_text() + f"\nTrained in {tmp_path}/x\n")
    package = pack_run(run, "alice/ninja")
    assert package.uploads[0].content == card
    assert any("edited by hand" in note for note in package.notes)
    assert any("names places on this machine" in note for note in package.notes)
    with pytest.raises(OutputError, match="set its licence there"):
        pack_run(run, "alice/ninja", licence="mit")
