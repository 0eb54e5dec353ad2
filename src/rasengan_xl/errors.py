"""Everything a user can get wrong; each ends a command with one line and exit status 2.

RasenganError
  RecipeError      a recipe, key or value is not allowed
  ModelError       a base model is missing, incomplete or not SDXL
  DatasetError     a dataset is missing, empty or holds something unusable
  AdapterError     an adapter does not fit its base, or a file is not one
  DeviceError      the machine lacks what was asked for
  OutputError      an output folder is in the way, or is not what was expected
    UnwritableError    a file cannot be written: full disk, read-only folder, limit
    DamagedFileError   a file of ours is cut short or altered
  HubError         the hub refuses what was asked, or cannot be reached
  VerificationError    a trained adapter is not what it should be; exit status 1
  DivergedError    a loss or gradient stopped being a finite number
  LostRankError    another process of the job has died
  SharedError      every process of the job knows of it, and the first one tells it
  MemoryExhaustedError   there is not enough memory for what was asked
"""

USER_ERROR_STATUS = 2
"""Exit status of a command, or of a worker, that met an error the user can mend."""
FAILED_CHECK_STATUS = 1
"""Exit status of a command that did its work and found an adapter at fault."""


class RasenganError(Exception):
    """Base of the errors that a user can mend; the message names what, where and the remedy."""

    status = USER_ERROR_STATUS
    """Of a command that ends with it."""


class RecipeError(RasenganError):
    """A recipe is missing, malformed, or asks for something impossible."""


class ModelError(RasenganError):
    """A base model is missing, incomplete or not SDXL."""


class DatasetError(RasenganError):
    """A dataset is missing, empty, or holds something unusable."""


class AdapterError(RasenganError):
    """An adapter does not fit its base, or a file is not an adapter."""


class DeviceError(RasenganError):
    """The machine lacks what was asked for."""


class OutputError(RasenganError):
    """An output folder is in the way, or is not what a command expected."""


class UnwritableError(OutputError):
    """A file cannot be written: the disk is full, the folder read-only, a limit reached."""


class DamagedFileError(OutputError):
    """A file that was written whole is cut short or altered."""


class HubError(RasenganError):
    """The hub refuses what was asked of it, or cannot be reached."""


class VerificationError(RasenganError):
    """An adapter was trained and saved, and is not what it should be."""

    status = FAILED_CHECK_STATUS


class DivergedError(RasenganError):
    """Training stopped because a loss or gradient was not finite."""


class LostRankError(RasenganError):
    """Another process of the training job has died."""


class SharedError(RasenganError):
    """An error that ends every process of a job; the first one tells the user."""


class MemoryExhaustedError(RasenganError):
    """There is not enough memory; the message says in which phase, and what would save how much."""
