"""The checkpoints of a run: saved, thinned out, measured, and gone back to."""

from pathlib import Path
from tempfile import TemporaryDirectory

from rasengan_xl.adapters.files import save_adapter
from rasengan_xl.errors import DamagedFileError, OutputError
from rasengan_xl.ranks import Ranks
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.records import BestCheckpoint, CheckpointLoss, standard_error
from rasengan_xl.training.state import TrainingState, read_precision


def save_checkpoint(state: TrainingState, folder: RunFolder, keep: int) -> None:
    """Keep where training stands and what it has learnt; drop checkpoints grown old.

    Args:
        state: As it is between two steps.
        folder: Of the run.
        keep: Newest checkpoints that stay.

    Raises:
        UnwritableError: It cannot be written; the checkpoints before it are as they were.
    """
    folder.bring_logs_to_disk()  # a checkpoint is of no use without the steps that led to it
    state.save(folder.checkpoint_file(state.steps_done))
    _give_out(state, folder.adapter_file)
    folder.drop_old_checkpoints(keep)


def restore_checkpoint(state: TrainingState, folder: RunFolder) -> list[str]:
    """Go back to the newest checkpoint that is whole, or to the start if none was ever saved.

    Damaged ones are put aside; later lines of the logs are dropped.

    Returns:
        What the user must be told, one line each.

    Raises:
        OutputError: Every checkpoint is damaged, or one is of another run.
    """
    folder.remove_drafts()
    damaged: list[str] = []
    for file in folder.checkpoints().values():
        try:
            state.restore(file)
            break
        except DamagedFileError as error:
            damaged.append(str(error))
    else:
        if damaged:
            raise OutputError(
                f"{damaged[0]}, nor is there another that is whole; restore one, or start anew "
                "with another --out"
            )
    folder.keep_records(state.steps_done)
    folder.put_aside_checkpoints(after=state.steps_done)
    if state.steps_done:  # what is given out may be older, or never have been written
        _give_out(state, folder.adapter_file)
    return [*_explain_damage(damaged, state), *_explain_precision(state, folder)]


def _explain_damage(damaged: list[str], state: TrainingState) -> list[str]:
    return [f"{fault}: it is put aside, going back to step {state.steps_done}" for fault in damaged]


def _explain_precision(state: TrainingState, folder: RunFolder) -> list[str]:
    """Say that a run goes on in another precision, which `auto` may find on another machine."""
    file = folder.checkpoints().get(state.steps_done)
    begun = read_precision(file) if file else state.precision
    if begun == state.precision:
        return []
    return [
        f"compute.precision was {begun}, is {state.precision} on this machine: the run goes on, "
        "but not as it would have there"
    ]


def is_measured(folder: RunFolder, step: int) -> bool:
    """Tell whether the held-out loss at a step is known already."""
    return step in {loss.step for loss in folder.losses()}


def keep_best(state: TrainingState, losses: list[float], timesteps: int, folder: RunFolder) -> None:
    """Note what was measured at a checkpoint, and keep its adapter if none before was better.

    A loss over another number of entries cannot be compared: the best is then sought anew.

    Args:
        state: As it was measured.
        losses: Mean loss of each held-out picture.
        timesteps: Over which each is the mean.
        folder: Of the run; holds what was measured before.
    """
    measured = CheckpointLoss(
        step=state.steps_done,
        loss=sum(losses) / len(losses),
        standard_error=standard_error(losses),
        n=len(losses) * timesteps,
    )
    best, step = folder.best(), measured.step
    # One of the same step was kept just before the run was killed, and its line not written.
    if best is None or best.n != measured.n or best.step == step or measured.loss < best.loss:
        _give_out(state, folder.best_adapter_file)
        folder.write_best(BestCheckpoint(step=step, loss=measured.loss, n=measured.n))
    folder.append_loss(measured)  # last: a line says that the best is up to date


def share_state(state: TrainingState, folder: RunFolder, ranks: Ranks) -> None:
    """Bring every process to where the first one stands, which alone knows the run's folder."""
    file = folder.checkpoints().get(state.steps_done) if ranks.is_first else None
    content = ranks.share_bytes(file.read_bytes() if file else None)
    if content is None or ranks.is_first:
        return
    with TemporaryDirectory() as place:
        copy = Path(place, "checkpoint.safetensors")
        copy.write_bytes(content)
        state.restore(copy)


def _give_out(state: TrainingState, file: Path) -> None:
    with state.given.in_place():
        save_adapter(state.adapter, file, zero_terminal_snr=state.zero_terminal_snr)
