import pytest

from rasengan_xl.errors import FAILED_CHECK_STATUS, VerificationError
from rasengan_xl.runs.folder import RunFolder, read_record
from rasengan_xl.runs.verification import Verification
from rasengan_xl.tensor_file import read_header, read_tensors, write_tensors
from rasengan_xl.training import checkpoints
from rasengan_xl.training.run import run_training

from ..exhaust import exhaust


def verification(folder: RunFolder) -> Verification:
    return read_record(Verification, folder.verification_file)


@pytest.mark.parametrize(
    "changes",
    [
        {"adapter": {"decompose": True}, "training": {"ema_decay": 0.5}},
        {"adapter": {"base_precision": "nf4", "dropout": 0.5, "rank_stabilized": True}},
    ],
    ids=["averaged dora", "qlora with dropout"],
)
def test_a_run_ends_with_a_verification_that_passes(settings, tmp_path, changes):
    folder = RunFolder(tmp_path / "run")
    exhaust(run_training(settings(**changes), folder))
    found = verification(folder)
    assert {check.status for check in found.checks} == {"passed"}
    assert found.passed
    assert folder.is_finished


@pytest.fixture
def spoiled_saving(monkeypatch):
    """Let what is saved be half of what was trained, as where a scale is lost."""
    save = checkpoints.save_adapter

    def spoil(adapter, file, **options):
        save(adapter, file, **options)
        tensors = {
            n: t * 0.5 if "lora_B" in n else t.clone() for n, t in read_tensors(file).items()
        }
        write_tensors(file, tensors, read_header(file))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save_adapter", spoil)
        yield


def test_a_run_whose_file_is_not_what_was_trained_fails_after_all_is_saved(
    settings, tmp_path, spoiled_saving
):
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(VerificationError) as raised:
        exhaust(run_training(settings(), folder))
    told = str(raised.value)
    assert raised.value.status == FAILED_CHECK_STATUS
    assert "saved" in told
    assert "verification.json" in told
    assert "\n" not in told
    assert [check.name for check in verification(folder).failures] == ["saved"]
    assert folder.table_losses_file.exists()
    assert folder.checkpoints()
    assert not folder.is_finished


def test_going_on_with_a_run_that_failed_verifies_it_anew(settings, tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr("rasengan_xl.training.run.verify_run", _find_fault)
        with pytest.raises(VerificationError):
            exhaust(run_training(settings(), folder))
    exhaust(run_training(settings(), folder, resume=True))
    assert verification(folder).passed
    assert folder.is_finished


def _find_fault(run, model):
    from rasengan_xl.training.verifying import verify_run

    found = verify_run(run, model)
    checks = [check.model_copy(update={"status": "failed"}) for check in found.checks]
    return found.model_copy(update={"passed": False, "checks": checks})


def test_a_run_that_is_stopped_is_not_verified_and_an_older_finding_goes(settings, tmp_path):
    folder = RunFolder(tmp_path / "run")
    work = run_training(settings(), folder)
    next(record for record in work if getattr(record, "step", 0) == 2)
    work.close()
    assert not folder.verification_file.exists()
    folder.verification_file.write_text("of another state")
    work = run_training(settings(), folder, resume=True)
    next(record for record in work if getattr(record, "step", 0) == 3)
    work.close()
    assert not folder.verification_file.exists()
