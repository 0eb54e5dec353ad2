"""What a comparison found: the contents of ``comparison.json``, the page's only source."""

from pathlib import Path
from typing import Any, Literal

from rasengan_xl.config.settings import PictureSettings
from rasengan_xl.runs.folder import write_whole
from rasengan_xl.runs.records import (
    BestCheckpoint,
    DatasetFacts,
    HeldOutLoss,
    IdleShare,
    Machine,
    Record,
    SecondsPerStep,
)

RESULT_FILE = "comparison.json"
BASE = "base"
"""What the pictures of the base model are called, beside the names of the arms."""


class ArmResult(Record):
    """What one arm cost and gave; measurements are absent when the arm failed."""

    name: str
    status: Literal["finished", "failed"]
    reason: str | None = None
    """Why it failed, in one line."""
    seed: int
    settings: dict[str, Any]
    """Everything the arm depended on, resolved."""
    differs: dict[str, Any]
    """This arm's value of every setting that is not the same in all arms."""
    run: str
    """The arm's folder, with its `steps.jsonl`; relative to the comparison's folder."""
    trainable_parameters: int | None = None
    total_parameters: int | None = None
    """Of the UNet and its adapter, whatever precision they are stored in."""
    adapter_file: str | None = None
    adapter_bytes: int | None = None
    peak_memory_gib: float | None = None
    """CUDA: most memory allocated while training. CPU: most resident memory of the process."""
    peak_memory_reserved_gib: float | None = None
    """CUDA only: most memory reserved by the allocator."""
    memory_kind: Literal["cuda allocated", "process resident"] | None = None
    seconds_per_step: SecondsPerStep | None = None
    loader_idle_share: IdleShare | None = None
    training_loss: float | None = None
    """Mean over the last tenth of the steps."""
    training_loss_steps: int | None = None
    """How many steps that mean is over."""
    skipped_steps: int | None = None
    """Steps that fp16 overflow made void."""
    held_out_loss: HeldOutLoss | None = None
    best: BestCheckpoint | None = None
    """Absent also when no checkpoint was measured."""
    trace_hash: str | None = None
    """Hash over the pictures, timesteps and noise that were seen, in order."""


class PictureRow(Record):
    """One prompt and seed, drawn by the base and by every arm from the same noise."""

    prompt: str
    seed: int
    base: str
    """Path of the base model's picture, relative to the comparison's folder."""
    arms: dict[str, str]
    """Path of each finished arm's picture."""


class Comparison(Record):
    """The whole result."""

    name: str
    base_model: str
    dataset: DatasetFacts | None
    """Absent when no arm came far enough to say."""
    machine: Machine | None
    picture_settings: dict[str, Any]
    """Sampler steps, guidance and size of the pictures."""
    arms: list[ArmResult]
    pictures: list[PictureRow]

    def write(self, file: Path) -> None:
        """Write the result as JSON, whole or not at all."""
        write_whole(file, self.model_dump_json(indent=2))


def picture_rows(
    settings: PictureSettings, arms: list[str], folder: Path, root: Path
) -> list[PictureRow]:
    """List the pictures of a comparison, their paths relative to `root`.

    Args:
        settings: Which prompts and seeds.
        arms: Which arms drew them.
        folder: Where the pictures lie.
        root: The comparison's folder.
    """
    requests = [(prompt, seed) for prompt in settings.prompts for seed in settings.seeds]
    return [
        PictureRow(
            prompt=prompt,
            seed=seed,
            base=str(picture_file(folder, BASE, number).relative_to(root)),
            arms={arm: str(picture_file(folder, arm, number).relative_to(root)) for arm in arms},
        )
        for number, (prompt, seed) in enumerate(requests)
    ]


def picture_file(folder: Path, arm: str, number: int) -> Path:
    """Return where an arm's picture lies; `number` counts prompts and seeds together."""
    return folder / arm / f"{number:03d}.png"
