"""A hub on this machine: it speaks what huggingface_hub does, and keeps what arrives."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import yaml

TOKEN = "hf_token_of_the_tests"
KNOWN = (f"Bearer {TOKEN}",)
OPEN = ("/api/validate-yaml",)
"""What nobody needs a token for."""
LICENCES = {"apache-2.0", "openrail++", "cc-by-4.0", "unknown"}


@dataclass
class Repository:
    private: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)

    def commit(self) -> str:
        listing = repr(sorted((name, hash_(data)) for name, data in self.files.items()))
        self.commits.append(hashlib.sha1(listing.encode()).hexdigest())
        return self.commits[-1]


@dataclass
class Hub:
    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    large_files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Every request: method and path."""
    answers: dict[str, int] = field(default_factory=dict)
    """Statuses to answer with where a path contains the key."""

    @property
    def written(self) -> list[str]:
        """What would change something."""
        return [path for method, path in self.asked if method != "GET" and path not in OPEN]


def hash_(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def _answer(self, method: str) -> None:
        path = urlsplit(self.path).path
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.asked.append((method, path))
        known = self.headers.get("Authorization") in KNOWN
        refused = [status for part, status in self.hub.answers.items() if part in path]
        if refused:
            self._send(refused[0], {"error": "as the test wants it"})
        elif not known and path not in OPEN and not path.startswith("/lfs/"):
            self._send(401, {"error": "Invalid username or password."})
        else:
            self._send(*self._route(method, path, body))

    def _send(self, status: int, answer: object, **headers: str) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        self.wfile.write(content)

    def _route(self, method: str, path: str, body: bytes) -> tuple[int, object]:
        routes = (
            (r"GET /api/whoami-v2", lambda: (200, {"name": "alice", "type": "user", "orgs": []})),
            (r"POST /api/validate-yaml", lambda: self._validate(json.loads(body))),
            (r"POST /api/repos/create", lambda: self._create(json.loads(body))),
            (r"GET /api/models/([^/]+/[^/]+)(?:/revision/main)?", self._describe),
            (
                r"POST /api/models/([^/]+/[^/]+)/preupload/main",
                lambda name: self._sort(name, json.loads(body)),
            ),
            (r"POST /([^/]+/[^/]+)\.git/info/lfs/objects/batch", lambda _: self._lfs(body)),
            (r"PUT /lfs/([0-9a-f]+)", lambda oid: self._keep(oid, body)),
            (r"POST /api/models/([^/]+/[^/]+)/commit/main", lambda n: self._commit(n, body)),
        )
        for pattern, act in routes:
            if match := re.fullmatch(pattern, f"{method} {path}"):
                return act(*match.groups())
        return 404, {"error": f"no such route: {method} {path}"}

    def _validate(self, asked: dict) -> tuple[int, object]:
        front = yaml.safe_load(asked["content"].split("---\n")[1])
        if front["license"] in LICENCES:
            return 200, {"errors": [], "warnings": []}
        return 400, {"errors": [{"message": '"license" must be one of the list'}], "warnings": []}

    def _create(self, asked: dict) -> tuple[int, object]:
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repositories:
            return 409, {"error": "You already created this model repo"}
        self.hub.repositories[name] = Repository(private=asked.get("visibility") == "private")
        self.hub.repositories[name].files[".gitattributes"] = b"* text\n"
        self.hub.repositories[name].commit()
        return 200, {"url": f"{self.hub.url}/{name}", "name": name, "id": name}

    def _describe(self, name: str) -> tuple[int, object]:
        if (found := self.hub.repositories.get(name)) is None:
            return 404, {"error": "Repository not found"}
        return 200, {
            "id": name,
            "sha": found.commits[-1],
            "private": found.private,
            "siblings": [{"rfilename": file} for file in found.files],
            "tags": [],
        }

    def _sort(self, name: str, asked: dict) -> tuple[int, object]:
        there = self.hub.repositories[name].files
        return 200, {
            "files": [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                    "oid": _object_id(file["path"], there),
                }
                for file in asked["files"]
            ]
        }

    def _lfs(self, body: bytes) -> tuple[int, object]:
        objects = [
            {
                "oid": each["oid"],
                "size": each["size"],
                "actions": {"upload": {"href": f"{self.hub.url}/lfs/{each['oid']}"}},
            }
            for each in json.loads(body)["objects"]
        ]
        return 200, {"transfer": "basic", "objects": objects}

    def _keep(self, oid: str, body: bytes) -> tuple[int, object]:
        if hash_(body) != oid:
            return 400, {"error": "arrived otherwise than it was announced"}
        self.hub.large_files[oid] = body
        return 200, {}

    def _commit(self, name: str, body: bytes) -> tuple[int, object]:
        found = self.hub.repositories[name]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if (
                line["key"] == "header"
                and value.get("parentCommit", found.commits[-1]) != (found.commits[-1])
            ):
                return 412, {"error": "A commit has happened since."}
            if line["key"] == "file":
                found.files[value["path"]] = base64.b64decode(value["content"])
            if line["key"] == "lfsFile":
                found.files[value["path"]] = self.hub.large_files[value["oid"]]
        oid = found.commit()
        url = f"{self.hub.url}/{name}/commit/{oid}"
        return 200, {"success": True, "commitOid": oid, "commitUrl": url}


def _object_id(path: str, there: dict[str, bytes]) -> str | None:
    """The id of a file that is there, by which huggingface_hub leaves out what has not changed."""
    if path not in there:
        return None
    data = there[path]
    if path.endswith(".safetensors"):
        return hash_(data)
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
