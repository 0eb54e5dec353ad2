"""What `rasengan verify` found of a run, if it was run."""

from typing import Any, cast

from pydantic import BaseModel, ConfigDict

from rasengan_xl.runs.folder import RunFolder, read_record


class Check(BaseModel):
    """One thing that was checked."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    status: str | bool
    detail: str | None = None

    @property
    def outcome(self) -> str:
        """The status in a word."""
        if isinstance(self.status, bool):
            return "passed" if self.status else "failed"
        return self.status

    @property
    def failed(self) -> bool:
        """Whether it is this check that the run did not pass."""
        return self.outcome.lower().startswith("fail")


class Verification(BaseModel):
    """The outcome, as far as a card repeats it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    passed: bool
    checks: list[Check] = cast("Any", [])  # pydantic copies such defaults


def read_verification(folder: RunFolder) -> Verification | None:
    """Read what was found; None: nobody has verified this run.

    Raises:
        OutputError: The file is damaged.
    """
    file = folder.verification_file
    return read_record(Verification, file) if file.exists() else None
