"""Files that are taken for pictures, read whole."""

from pathlib import Path

LARGEST_BYTES = 2**30
"""No picture that may be decoded is larger: what claims to be one is a film, a disk or a hole."""


def read_picture_file(path: Path) -> bytes:
    """Return what a file holds.

    Raises:
        OSError: It cannot be read, is no regular file, or is larger than a picture may be.
    """
    status = path.stat()
    if not path.is_file():  # To open a pipe is to wait for ever.
        raise OSError("not a file")
    if status.st_size > LARGEST_BYTES:
        raise OSError(f"larger than {LARGEST_BYTES >> 30} GiB, as no picture is")
    return path.read_bytes()
