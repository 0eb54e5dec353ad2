"""Every file below a folder, whatever links, pipes and rights lie in the way."""

import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Kind = Literal["file", "special", "broken"]


@dataclass(frozen=True, slots=True)
class FoundFile:
    """Something below a folder that is no folder itself."""

    path: str
    """From the folder, with forward slashes."""
    kind: Kind
    """A regular file or a link to one; a pipe, socket or device; a link to nothing."""

    @property
    def hidden(self) -> bool:
        """Whether it, or a folder on the way to it, has a name that starts with a dot."""
        return self.path.startswith(".") or "/." in self.path


@dataclass(slots=True)
class FolderContent:
    """What lies below a folder."""

    files: list[FoundFile] = field(default_factory=list[FoundFile])
    """In the order of their paths."""
    closed_folders: dict[str, str] = field(default_factory=dict[str, str])
    """Folders that cannot be listed, and why."""
    repeated_links: int = 0
    """Links to folders that are listed elsewhere or lead in a circle."""


def walk_folder(root: Path) -> FolderContent:
    """List a folder and its sub-folders, links to folders followed once.

    Each real folder is listed once, at its own place where it lies below the root, so that links
    in a circle end, and no file is found twice.
    """
    content = FolderContent()
    seen = {_identity(folder) for folder in root.resolve().parents}
    waiting, links = deque([""]), deque[str]()
    while waiting or links:
        folder = waiting.popleft() if waiting else links.popleft()
        try:
            identity = _identity(root / folder)
            if identity in seen:
                content.repeated_links += 1
                continue
            seen.add(identity)
            with os.scandir(root / folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as fault:
            content.closed_folders[folder or "."] = fault.strerror or str(fault)
            continue
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            _sort(entry, path, content, (waiting, links))
    content.files.sort(key=lambda file: file.path)
    return content


def _sort(
    entry: os.DirEntry[str],
    path: str,
    content: FolderContent,
    folders: tuple[deque[str], deque[str]],
) -> None:
    kind = _kind(entry)
    file = FoundFile(path, "file" if kind == "folder" else kind)
    linked = entry.is_symlink()
    # A link in a hidden folder, such as a virtual environment, may lead anywhere.
    if kind == "folder" and not (linked and file.hidden):
        folders[linked].append(path)
    else:
        content.files.append(file)


def _kind(entry: os.DirEntry[str]) -> Kind | Literal["folder"]:
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
        entry.stat()
    except OSError:  # A link to nothing, or to itself.
        return "broken"
    return "special"


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
