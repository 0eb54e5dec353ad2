"""Open a tracker, or say before any work what is missing for it."""

import importlib
import importlib.util
import io
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from contextvars import Context
from pathlib import Path
from typing import Any, Literal, cast

from rasengan_xl.errors import DeviceError
from rasengan_xl.trackers.tracker import Scalars, Sink, Tracker

TrackerKind = Literal["tensorboard", "wandb", "trackio"]

PROJECT = "rasengan-xl"
"""What runs are filed under where the user has not chosen (`WANDB_PROJECT`)."""


_LIBRARIES: dict[TrackerKind, str] = {
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "trackio": "trackio",
}


def check_trackers(kinds: Sequence[str]) -> tuple[TrackerKind, ...]:
    """Refuse a tracker that is unknown, not installed or not logged in, before any work.

    Raises:
        DeviceError: It is.
    """
    known: dict[str, TrackerKind] = {kind: kind for kind in _LIBRARIES}
    for kind in kinds:
        if kind not in known:
            raise DeviceError(f"--track {kind}: is unknown; give one of {', '.join(known)}")
        if importlib.util.find_spec(_LIBRARIES[known[kind]]) is None:
            raise DeviceError(_describe_missing(kind))
        if kind == "wandb":
            _refuse_logged_out_wandb()
    return tuple(known[kind] for kind in kinds)


def open_tracker(
    kind: TrackerKind, folder: Path, run_name: str, settings: Mapping[str, Any]
) -> Tracker:
    """Begin to track one run.

    Args:
        kind: Which library.
        folder: Where it writes, if it writes files of its own; trackio has a place of its own.
        run_name: By which the run is found there.
        settings: Everything the run depends on, as JSON values.

    Raises:
        DeviceError: The library is missing, or does not take the run.
    """
    opening: dict[str, Callable[[Path, str, Mapping[str, Any]], Sink]] = {
        "tensorboard": _open_tensorboard,
        "wandb": _open_wandb,
        "trackio": _open_trackio,
    }
    try:
        return Tracker(kind, opening[kind](folder, run_name, settings))
    except ImportError as error:
        raise DeviceError(_describe_missing(kind)) from error
    except DeviceError:
        raise
    except Exception as error:  # a library may raise anything, such as for a name or a proxy
        raise DeviceError(_describe_refusal(kind, error)) from error


def _describe_missing(kind: str) -> str:
    return f"--track {kind}: is not installed; run `pip install 'rasengan-xl[{kind}]'`"


def _describe_refusal(kind: str, error: Exception) -> str:
    lines = str(error).strip().splitlines()
    said = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return f"--track {kind}: cannot begin ({said}); mend that, or leave out --track {kind}"


def _open_tensorboard(folder: Path, run_name: str, settings: Mapping[str, Any]) -> Sink:
    tensorboard = importlib.import_module("torch.utils.tensorboard")
    writer = tensorboard.SummaryWriter(str(folder / run_name))
    lines = (f"    {name}: {value}" for name, value in _flat(settings).items())
    writer.add_text("settings", "\n".join(lines))  # indented, so that Markdown keeps the lines

    def write(scalars: Scalars, step: int) -> None:
        for name, value in scalars.items():
            writer.add_scalar(name, value, step)

    return Sink(write=write, end=writer.close)


def _open_wandb(folder: Path, run_name: str, settings: Mapping[str, Any]) -> Sink:
    wandb = importlib.import_module("wandb")
    _refuse_logged_out_wandb()
    folder.mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        name=run_name,
        dir=str(folder),
        config=dict(settings),
        reinit="create_new",  # a comparison has several at once
        settings=wandb.Settings(silent=True, console="off"),
    )
    return Sink(write=lambda scalars, step: run.log(dict(scalars), step=step), end=run.finish)


def _refuse_logged_out_wandb() -> None:
    """Refuse to begin without a key: `init` would ask for one, and it is the user's to log in."""
    try:
        wandb = importlib.import_module("wandb")
        is_online = wandb.setup().settings.mode == "online"
        is_ready = not is_online or wandb.login(prompt=False, verify=False)
    except Exception as error:  # such as for a key of a wrong length, or a mode that is none
        raise DeviceError(_describe_refusal("wandb", error)) from error
    if not is_ready:
        raise DeviceError(
            "--track wandb: you are not logged in; run `wandb login`, or set WANDB_MODE=offline"
        )


def _open_trackio(folder: Path, run_name: str, settings: Mapping[str, Any]) -> Sink:  # noqa: ARG001
    trackio = importlib.import_module("trackio")

    def begin() -> Any:
        return trackio.init(project=PROJECT, name=run_name, config=_flat(settings))

    def end() -> None:
        with redirect_stdout(io.StringIO()):  # it talks
            run.finish()

    with redirect_stdout(io.StringIO()):
        # In a context of its own: there it does not end the run that was begun before.
        run = Context().run(begin)
    return Sink(write=lambda scalars, step: run.log(dict(scalars), step=step), end=end)


def _flat(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Name every value by its whole path, as `--set` does."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(_flat(cast("Mapping[str, Any]", value), f"{above}{name}."))
        else:
            flat[f"{above}{name}"] = value
    return flat
