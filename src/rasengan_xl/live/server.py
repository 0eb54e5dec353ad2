"""Serve the live page of a folder to this machine alone."""

import errno
import threading
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import ThreadingHTTPServer
from logging import getLogger
from pathlib import Path
from socketserver import TCPServer
from typing import Any

from rasengan_xl.errors import DeviceError, OutputError
from rasengan_xl.live.handler import LiveHandler, Site
from rasengan_xl.live.page import load_page
from rasengan_xl.live.state import FolderWatch

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 8765
_PORTS_TRIED = 20
_log = getLogger(__name__)
_TAKEN = {errno.EADDRINUSE, errno.EACCES}
"""What binding answers when another program, or the system, has the port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the live page is to be seen."""

    url: str
    note: str | None
    """In one line, if it is another port than was asked for."""


@contextmanager
def serving(folder: Path, port: int = DEFAULT_PORT) -> Generator[Address]:
    """Serve a comparison's folder beside other work, until the block ends.

    Args:
        folder: Need not exist yet.
        port: 0: any that is free.

    Raises:
        DeviceError: Neither the port nor one of those after it is free.
    """
    server, address = _open_server(folder, port)
    thread = threading.Thread(target=server.serve_forever, name="live page", daemon=True)
    with closing(server):
        thread.start()
        try:
            yield address
        finally:
            server.shutdown()
            thread.join()


def serve_forever(
    folder: Path, announce: Callable[[Address], None], port: int = DEFAULT_PORT
) -> None:
    """Serve a comparison's folder until Ctrl-C.

    Args:
        folder: Of a comparison, running or finished.
        announce: Told where, once the page can be opened.
        port: 0: any that is free.

    Raises:
        OutputError: There is no such folder.
        DeviceError: Neither the port nor one of those after it is free.
    """
    if not folder.is_dir():
        raise OutputError(f"{folder}: is no folder; name the one of a `rasengan compare`")
    server, address = _open_server(folder, port)
    with closing(server):
        announce(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Bind without asking the network for this machine's name."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = LOOPBACK, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Note what broke a connection off, instead of printing it."""
        del request
        _log.debug("%s", client_address, exc_info=True)

    def close(self) -> None:
        """Let go of the port."""
        self.server_close()


def _open_server(folder: Path, port: int) -> tuple[_Server, Address]:
    site = Site(folder=folder, watch=FolderWatch(folder), page=load_page())
    handler = partial(LiveHandler, site)
    last = min(port + _PORTS_TRIED, 65535)
    for tried in range(port, last + 1):
        try:
            server = _Server((LOOPBACK, tried), handler)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            continue
        found = server.server_port
        note = f"port {port} is taken; using {found}" if port and found != port else None
        return server, Address(url=f"http://{LOOPBACK}:{found}/", note=note)
    raise DeviceError(f"--port {port}: it is taken, and so are those up to {last}; name another")
