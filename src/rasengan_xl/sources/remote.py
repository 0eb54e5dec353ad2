"""Datasets at an address such as `s3://` or `hf://`: mirrored into the cache folder, then local."""

import hashlib
import json
import re
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

from filelock import FileLock
from fsspec import core
from fsspec.registry import known_implementations

from rasengan_xl.cache_folder import cache_folder
from rasengan_xl.errors import DatasetError
from rasengan_xl.runs.records import StageProgress
from rasengan_xl.sources.names import one_line, printable

STAGE = "fetch the dataset"
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*(::.+)?://.*", re.IGNORECASE | re.DOTALL)
_THREADS = 16
_connect_to = cast("Any", core).url_to_fs  # the library carries no types


def is_address(source: str) -> bool:
    """Tell whether a name is shaped like `protocol://place`."""
    return _ADDRESS.fullmatch(source) is not None


def mirror(address: str) -> Generator[StageProgress, None, Path]:
    """Bring the files at an address to this machine; those that have not changed stay.

    Args:
        address: Of a file or a folder, of any protocol that fsspec knows.

    Returns:
        The file or folder on this machine, under the name it has there.

    Raises:
        DatasetError: The address is wrong, nothing is there, it cannot be reached, or its
            protocol needs a package that is not installed.
    """
    system, place = _connect(address)
    if "file" in system.protocol:
        return Path(place)
    digest = hashlib.sha256(address.encode(errors="surrogatepass")).hexdigest()
    folder = cache_folder() / "remote" / digest[:16]
    root = folder / "files" / (PurePosixPath(place).name or "dataset")
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        files = _list(system, place, root, address)
        manifest = _Manifest(folder, root)
        manifest.forget_all_but(files)
        wanted = [file for file in files if not manifest.holds(file)]
        unchanged = len(files) - len(wanted)
        yield StageProgress(stage=STAGE, done=unchanged, total=len(files))
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="fetch") as pool:
            futures = [pool.submit(_fetch, system, file, manifest, address) for file in wanted]
            try:
                for done, future in enumerate(as_completed(futures), unchanged + 1):
                    future.result()
                    yield StageProgress(stage=STAGE, done=done, total=len(files))
            finally:  # Also when the caller has gone away: fetch nothing that has not begun.
                pool.shutdown(wait=True, cancel_futures=True)
    return root


@dataclass(frozen=True, slots=True)
class _RemoteFile:
    path: str
    """As its system names it."""
    version: str
    """Changes whenever the content does."""
    local: Path


class _Manifest:
    """Which version of each file lies in a mirror; a line is added once its file is in place."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.drafts = folder / "drafts"
        self._file, self._root = folder / "manifest.jsonl", root
        self._lock = threading.Lock()
        self._versions: dict[str, str] = {}
        lines = self._file.read_bytes().splitlines() if self._file.exists() else []
        for line in lines:
            try:
                path, version = cast("list[str]", json.loads(line))
            except ValueError:  # The last line, if the process died while it wrote it.
                continue
            self._versions[path] = version

    def forget_all_but(self, current: Sequence[_RemoteFile]) -> None:
        """Remove files that are there in another version, or no more."""
        kept = {self._name(file): file.version for file in current}
        for name, version in list(self._versions.items()):
            if kept.get(name) != version:
                (self._root / name).unlink(missing_ok=True)
                del self._versions[name]
        draft = self._file.with_suffix(".part")
        draft.write_text("".join(map(_manifest_line, self._versions.items())))
        draft.replace(self._file)

    def holds(self, file: _RemoteFile) -> bool:
        return self._name(file) in self._versions and file.local.is_file()

    def add(self, file: _RemoteFile) -> None:
        with self._lock, self._file.open("a") as opened:
            opened.write(_manifest_line((self._name(file), file.version)))

    def _name(self, file: _RemoteFile) -> str:
        return file.local.relative_to(self._root).as_posix()


def _manifest_line(entry: tuple[str, str]) -> str:
    return f"{json.dumps(entry)}\n"


def _connect(address: str) -> tuple[Any, str]:
    try:
        return _connect_to(address)
    except ImportError as fault:
        protocol = re.split("::|://", address)[0]
        package = known_implementations.get(protocol, {}).get("class", protocol).partition(".")[0]
        raise DatasetError(
            f"{address}: reading {protocol}:// needs another package: pip install {package}"
        ) from fault
    except Exception as fault:  # Each protocol's library has its own.
        raise _unreachable(address, fault) from fault


def _list(system: Any, place: str, root: Path, address: str) -> list[_RemoteFile]:
    try:
        system.invalidate_cache()
        found = cast("dict[str, dict[str, object]]", system.find(place, detail=True))
    except Exception as fault:  # As above.
        raise _unreachable(address, fault) from fault
    if not found:
        raise DatasetError(f"{address}: no such file or folder, or an empty one: check the address")
    # Size, time, checksum: each system tells what it has.
    return [
        _RemoteFile(path, str(sorted(info.items())), _local(path, place, root, address))
        for path, info in sorted(found.items())
    ]


def _local(path: str, place: str, root: Path, address: str) -> Path:
    relative = path.removeprefix(place.rstrip("/")).strip("/")
    if ".." in relative.split("/") or "\0" in relative:
        raise DatasetError(f"{address}: no file can be called {printable(relative)}: rename it")
    return root / relative


def _fetch(system: Any, file: _RemoteFile, manifest: _Manifest, address: str) -> None:
    try:
        manifest.drafts.mkdir(exist_ok=True)
        file.local.parent.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(file.path.encode(errors="surrogatepass")).hexdigest()
        draft = manifest.drafts / name
        system.get_file(file.path, str(draft))
        draft.replace(file.local)
        manifest.add(file)
    except Exception as fault:  # As above.
        raise _unreachable(f"{address}: {printable(file.path)}", fault) from fault


def _unreachable(what: str, fault: Exception) -> DatasetError:
    return DatasetError(
        f"{what}: cannot be fetched ({one_line(fault)}): "
        "check the address, the network, and that you may read it"
    )
