"""A small hub on loopback: what the real client asks of the real one when it downloads a file.

Large files redirect to a storage host, as on the hub. Both are this server under two names, so that
it shows whether a token reaches the storage.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import NamedTuple

RESOLVE = re.compile(r"/(?P<repository>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")


class Request(NamedTuple):
    method: str
    path: str
    token: str | None


@dataclass
class StoredFile:
    """A file of one commit; a path is read as it is sent."""

    content: bytes | Path
    large: bool = True

    def read(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()

    @property
    def size(self) -> int:
        content = self.content
        return len(content) if isinstance(content, bytes) else content.stat().st_size

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.read()).hexdigest()

    @property
    def git_blob(self) -> str:
        return hashlib.sha1(b"blob %d\0" % self.size + self.read()).hexdigest()


@dataclass
class FakeHub:
    """What the server offers, how it fails, and what it was asked."""

    port: int = 0
    files: dict[tuple[str, str, str], StoredFile] = field(default_factory=dict)
    """by repository, commit, path"""
    branches: dict[tuple[str, str], str] = field(default_factory=dict)
    """commit by repository and branch"""
    refuse: tuple[int, str] | None = None
    """HTTP status and error code of every answer"""
    break_after: int | None = None
    """bytes after which the storage closes every connection"""
    sent_instead: bytes | None = None
    """what the storage sends in place of the content"""
    requests: list[Request] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def storage(self) -> str:
        return f"http://localhost:{self.port}/storage"

    def add(self, repository: str, commit: str, path: str, file: StoredFile) -> None:
        self.files[repository, commit, path] = file

    def asked(self, method: str) -> list[Request]:
        return [request for request in self.requests if request.method == method]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *args: object) -> None:
        """Quiet."""

    def _answer(self) -> None:
        hub, token = self.hub, self.headers["Authorization"]
        hub.requests.append(Request(self.command, self.path, token))
        if hub.refuse is not None:
            self._refuse(*hub.refuse)
        elif self.path.startswith("/storage/"):
            self._send_from_storage(self.path.rpartition("/")[2])
        elif match := RESOLVE.fullmatch(self.path):
            self._resolve(**match.groupdict())
        else:
            self._refuse(404, "RepoNotFound")

    def _resolve(self, repository: str, revision: str, path: str) -> None:
        hub = self.hub
        commit = hub.branches.get((repository, revision), revision)
        known = [key for key in hub.files if key[0] == repository]
        file = hub.files.get((repository, commit, path))
        if not known:
            self._refuse(401, "RepoNotFound")
        elif not any(key[1] == commit for key in known):
            self._refuse(404, "RevisionNotFound")
        elif file is None:
            self._refuse(404, "EntryNotFound")
        elif file.large:
            self._head(302, commit, file.sha256, 0)
            self.send_header("X-Linked-Etag", f'"{file.sha256}"')
            self.send_header("X-Linked-Size", str(file.size))
            self.send_header("Location", f"{hub.storage}/{file.sha256}")
            self.end_headers()
        else:
            self._head(200, commit, file.git_blob, file.size)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(file.read())

    def _head(self, status: int, commit: str, etag: str, length: int) -> None:
        self.send_response(status)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("Content-Length", str(length))

    def _send_from_storage(self, sha256: str) -> None:
        hub = self.hub
        file = next(file for file in hub.files.values() if file.sha256 == sha256)
        content = file.read() if hub.sent_instead is None else hub.sent_instead
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: hub.break_after])
        self.close_connection = hub.break_after is not None

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def serve_hub() -> Iterator[FakeHub]:
    """The server, as long as the context lasts."""
    hub = FakeHub()
    handler = type("HubHandler", (Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.port = server.server_port
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield hub
        server.shutdown()
        thread.join()
