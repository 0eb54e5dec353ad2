"""The folder of a comparison: the only place that knows the names of its files."""

import shutil
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from rasengan_xl.config.comparison_settings import ComparisonSettings
from rasengan_xl.errors import OutputError
from rasengan_xl.runs.folder import RunFolder, refuse_used_folder, write_whole

PictureKind = Literal["shown", "scored", "neutral"]
"""What is drawn: for people; to be judged by numbers; of what has nothing to do with the style."""


DRAWN_FOLDER = "drawn"
ARRIVING = ".arriving-"
"""How folders begin that are on their way from another machine."""


class ComparisonFolder:
    """Where the settings, runs, pictures, features and result of a comparison lie."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings_file = root / "settings.json"
        self.prepared_file = root / "prepared" / "facts.json"
        self.logs_folder = root / "logs"

    def run(self, arm: str, seed: int) -> RunFolder:
        """Return the folder of an arm trained with a seed."""
        return RunFolder(self.root / run_folder(arm, seed))

    def trial(self, arm: str, learning_rate: float) -> RunFolder:
        """Return the folder of a learning rate tried for an arm."""
        return RunFolder(self.root / "sweep" / arm / f"{learning_rate:g}")

    def failure_file(self, run: str) -> Path:
        """Name the file that says how a run failed, or what it took to finish it."""
        return self.root / "failures" / f"{run}.json"

    def log_file(self, name: str) -> Path:
        """Name the file that keeps what a worker's libraries said."""
        return self.logs_folder / f"{name.replace('/', '-').replace(' ', '-')}.log"

    def drawn(self, subject: str) -> "DrawnFolder":
        """Return the folder of what a subject drew."""
        return DrawnFolder(self.root / drawn_folder(subject))

    @property
    def reference(self) -> "DrawnFolder":
        """Return the folder of what drawn pictures are set against."""
        return self.drawn(REFERENCE)

    def relative(self, path: Path) -> str:
        """Write a path as the result does."""
        return path.relative_to(self.root).as_posix()

    @property
    def is_begun(self) -> bool:
        """Whether there is a comparison here that could be continued."""
        return self.settings_file.exists()

    def begun_settings(self) -> ComparisonSettings | None:
        """Return what the comparison that lies here was begun with; None: there is none.

        Raises:
            OutputError: Something else lies here.
        """
        if not self.is_begun:
            self.remove_leftovers()
            refuse_used_folder(self.root, "choose another --out")
            return None
        try:
            return ComparisonSettings.model_validate_json(
                self.settings_file.read_text(encoding="utf-8")
            )
        except (OSError, ValidationError) as error:
            raise OutputError(
                f"{self.settings_file}: is not the settings of a comparison that this version can "
                "continue; choose another --out"
            ) from error

    def remove_leftovers(self) -> None:
        """Remove what a command leaves that was killed before it had kept its settings."""
        if not self.root.is_dir():
            return
        left = [p for p in self.root.iterdir() if p.name in {self.logs_folder.name, "prepared"}]
        left += self.root.glob(f"{ARRIVING}*")
        if left and len(left) == len(list(self.root.iterdir())):  # else it is somebody's
            for path in left:
                shutil.rmtree(path)
            self.root.rmdir()

    def keep_settings(self, settings: ComparisonSettings) -> None:
        """Keep what the comparison is continued with from now on."""
        write_whole(self.settings_file, settings.model_dump_json(indent=2))


class DrawnFolder:
    """Where the pictures of one subject lie, with what was measured of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.facts_file = path / "facts.json"

    def picture_file(self, kind: PictureKind, number: int) -> Path:
        """Name a picture."""
        return self.path / kind / f"{number:03d}.png"

    def nearest_file(self, number: int) -> Path:
        """Name the training picture most like a scored picture."""
        return self.path / "nearest" / f"{number:03d}.png"

    def features_file(self, encoder: str) -> Path:
        """Name the file of the features that an encoder gave the pictures."""
        return self.path / f"features-{encoder}.safetensors"


REFERENCE = "reference"
"""Who stands for the dataset's own pictures, beside those who draw."""


def drawn_folder(subject: str) -> str:
    """Name the folder of what a subject drew, relative to the comparison's."""
    return f"{DRAWN_FOLDER}/{subject}"


def run_folder(arm: str, seed: int) -> str:
    """Name the folder of an arm trained with a seed, relative to the comparison's."""
    return f"arms/{subject_of(arm, seed)}"


def subject_of(arm: str, seed: int) -> str:
    """Name who draws: an arm trained with a seed."""
    return f"{arm}/seed-{seed}"
