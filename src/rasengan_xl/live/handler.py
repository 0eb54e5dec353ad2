"""What the live page's server answers, and what it refuses."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from logging import getLogger
from pathlib import Path
from shutil import copyfileobj
from socketserver import BaseServer
from typing import Any

from rasengan_xl.live.page import LivePage
from rasengan_xl.live.paths import CONTENT_TYPES, find_file, parse_path
from rasengan_xl.live.state import FolderWatch
from rasengan_xl.report.own_script import REPORT_FILE, SCRIPT_HASH

STATE_PATH = "state.json"
_HOST = re.compile(r"(127\.0\.0\.1|localhost)(:\d{1,5})?", re.IGNORECASE)
"""Any port: the page may be seen through a tunnel that ends at another one."""
_REPORT_POLICY = (
    f"default-src 'none'; script-src '{SCRIPT_HASH}'; style-src 'unsafe-inline'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Of the report alone, by its name: whatever else is HTML runs nothing."""
_FILE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
_SILENCE_SECONDS = 10
"""A connection that sends nothing for so long is closed."""
_log = getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What is served."""

    folder: Path
    watch: FolderWatch
    page: LivePage


class LiveHandler(BaseHTTPRequestHandler):
    """Answers GET and HEAD from programs on this machine, and changes nothing."""

    timeout = _SILENCE_SECONDS
    server_version = "rasengan"
    sys_version = ""

    def __init__(self, site: Site, request: Any, address: Any, server: BaseServer) -> None:
        self._site = site
        super().__init__(request, address, server)

    def do_GET(self) -> None:
        """Answer with the live page, the state, or a file of the folder."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
            # A page elsewhere on the net that gave this machine its own name (DNS rebinding).
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        names = parse_path(self.path)
        if names is None:
            self.send_error(HTTPStatus.BAD_REQUEST)
        elif names == ():
            page = self._site.page
            self._send(page.content, CONTENT_TYPES[".html"], page.policy)
        elif names == (STATE_PATH,):
            state = self._site.watch.look().model_dump_json().encode()
            self._send(state, CONTENT_TYPES[".json"], _FILE_POLICY)
        else:
            is_report = names == (REPORT_FILE,)
            policy = _REPORT_POLICY if is_report else _FILE_POLICY
            self._send_file(find_file(self._site.folder, names), policy)

    do_HEAD = do_GET  # noqa: N815 - see `_has_body`

    def _refuse_method(self) -> None:
        self.send_error(HTTPStatus.METHOD_NOT_ALLOWED)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse_method  # noqa: N815

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer with the bare name of an error: nothing of the request comes back."""
        del message, explain
        status = HTTPStatus(code)
        content = f"{status.value} {status.phrase}\n".encode()
        self._send(content, CONTENT_TYPES[".txt"], _FILE_POLICY, status)

    def log_message(self, format: str, *args: Any) -> None:
        """Note a request where one may look for it."""
        _log.debug(format, *args)

    def _send_file(self, file: Path | None, policy: str) -> None:
        if file is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            content = file.open("rb")
        except OSError:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        with content:
            self._send_head(CONTENT_TYPES[file.suffix], policy, HTTPStatus.OK)
            self._send_body(lambda: copyfileobj(content, self.wfile))

    def _send(
        self, content: bytes, kind: str, policy: str, status: HTTPStatus = HTTPStatus.OK
    ) -> None:
        self._send_head(kind, policy, status, len(content))
        self._send_body(lambda: self.wfile.write(content))

    def _send_head(
        self, kind: str, policy: str, status: HTTPStatus, length: int | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is not None:  # a file may grow meanwhile; its end is that of the connection
            self.send_header("Content-Length", str(length))
        self.send_header("Content-Security-Policy", policy)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()

    def _send_body(self, write: Callable[[], object]) -> None:
        if self.command == "HEAD":
            return
        try:
            write()
        except OSError as error:  # the reader went away, or stopped reading
            _log.debug("%s: %s", self.path, error)
