"""Verify what a run has trained, while it is still on the model it was trained on."""

from rasengan_xl.adapters.verification.trained import TrainedAdapter, verify_trained
from rasengan_xl.errors import VerificationError
from rasengan_xl.runs.verification import Verification
from rasengan_xl.sdxl.model_folder import ModelFolder
from rasengan_xl.training.assembly import Run
from rasengan_xl.whole_file import write_whole


def verify_run(run: Run, model: ModelFolder) -> Verification:
    """Check the adapter that a run gives out, and keep what was found in its folder.

    Raises:
        AdapterError: Its file is damaged.
        UnwritableError: What was found cannot be written.
    """
    with run.state.given.in_place():
        found = verify_trained(
            TrainedAdapter(
                adapter=run.state.adapter,
                file=run.folder.adapter_file,
                settings=run.settings.adapter,
                model=model,
                base=run.base,
                attached=run.attached,
                compute=run.task.compute,
            )
        )
    write_whole(run.folder.verification_file, found.model_dump_json(indent=2))
    return found


def refuse_failure(run: Run, found: Verification) -> None:
    """End a run whose adapter is not what it should be.

    Raises:
        VerificationError: A check failed; names the first.
    """
    if found.passed:
        return
    first = found.failures[0]
    others = len(found.failures) - 1
    more = f", and {others} more" if others else ""
    raise VerificationError(
        f"{run.folder.adapter_file}: is saved, but failed its verification: {first.name}: "
        f"{first.detail}{more}; see {run.folder.verification_file.name}, and do not use it"
    )
