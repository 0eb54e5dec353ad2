"""How a comparison stands: what the live page asks for again and again, as JSON."""

from typing import Literal

from rasengan_xl.runs.records import CheckpointLoss, HeldOutLoss, Record

RunStage = Literal["waiting", "starting", "training", "measuring", "stopped", "finished", "failed"]


class LiveCurve(Record):
    """Training loss by optimizer step, thinned."""

    steps_per_point: int
    """Each point is the mean of so many steps, at most."""
    points: list[tuple[int, float]]
    """Last step of each point, and its loss."""


class LiveRun(Record):
    """How one arm, with one seed, stands."""

    arm: str
    seed: int
    stage: RunStage
    reason: str | None
    """Why it failed, in one line."""
    step: int
    """How many optimizer steps are done."""
    steps: int
    """How many there are to do."""
    seconds_per_step: float | None
    """Median of the latest steps; absent before the first."""
    seconds_left: float | None
    """Of its steps, at that pace; absent when none are going on."""
    seconds_silent: float | None
    """Since the latest step; absent when none are going on."""
    peak_memory_gib: float | None
    curve: LiveCurve
    checkpoints: list[CheckpointLoss]
    held_out_loss: HeldOutLoss | None
    """Of the whole run; absent until it is finished."""


class LivePicture(Record):
    """A drawn picture that is complete on the disk."""

    path: str
    """Relative to the comparison's folder, with forward slashes."""
    changed: int
    """When it was written, in nanoseconds: tells a new picture of an old name."""
    arm: str
    """Or `base`."""
    seed: int | None
    """With which the arm was trained; absent where the path does not say."""
    prompt: str | None
    """Absent where the picture does not say."""
    noise_seed: int | None
    """Of the first noise; absent where the picture does not say."""


class LiveState(Record):
    """How the whole comparison stands."""

    name: str
    status: Literal["preparing", "running", "finished"]
    """`preparing`: nothing has been written yet."""
    has_report: bool
    step: int
    """How many optimizer steps are done, over all runs."""
    steps: int
    seconds_left: float | None
    """Of all steps, if as many runs go on side by side as now; absent while no pace is known."""
    runs: list[LiveRun]
    pictures: list[LivePicture]
    notes: list[str]
    """What could not be read, one line each."""
