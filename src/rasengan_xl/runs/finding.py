"""From an adapter's file to the run that it is of."""

from pathlib import Path

from rasengan_xl.runs.folder import RunFolder


def folder_around(adapter: Path) -> RunFolder:
    """Return the folder of the run that an adapter would be the last, best or a checkpoint of.

    Args:
        adapter: A file, or a run's folder itself; whether a run is there is another question.
    """
    place = (adapter if adapter.is_dir() else adapter.parent).resolve()
    around = RunFolder(place.parent)
    is_inside = place in {around.best_adapter_file.parent, around.checkpoints_folder}
    return around if is_inside else RunFolder(place)


def find_run(adapter: Path) -> RunFolder | None:
    """Find the run that an adapter is of; None: it is of none."""
    folder = folder_around(adapter)
    return folder if folder.is_begun else None
