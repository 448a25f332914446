"""A server that is attacked, and requests to it that stay as they are written."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

MOST_BYTES = 4 * 2**20
"""Of an answer that are looked at."""
HANGS_SECONDS = 90.0
"""Without an answer for so long, a request hangs."""


class Answer(NamedTuple):
    """What came back."""

    status: int
    """HTTP status or code of a closed WebSocket; 0 where the connection was just closed."""
    content: bytes
    """All of it, headers too."""
    hangs: bool = False
    wrong: str = ""
    """What an attack has seen that must not be."""


class Hooks(NamedTuple):
    """Where webhooks may go, and a private service beside it."""

    allowed: str
    trap: str


@dataclass(frozen=True)
class Target:
    """A server, a key to it, and a file of its machine that must not come out."""

    address: str
    """``127.0.0.1:8000``"""
    canary: Path
    """Its content, and where it lies, are nobody's business."""
    portrait: bytes
    speech: bytes
    key: str | None = None
    """None: the page."""
    sources: tuple[str, ...] = ("127.0.0.1",)
    """Addresses of this machine from which attacks come."""
    page_fields: int = 0
    """How many inputs the page has."""
    page_function: int = 1
    """Number of the page's function that makes videos."""
    hooks: Hooks | None = None

    def with_key(self, key: str) -> Target:
        """The same for somebody else."""
        return replace(self, key=key)

    @property
    def port(self) -> int:
        return int(self.address.rsplit(":", 1)[1])

    def connect(self, rng: random.Random) -> socket.socket:
        """A connection from one of the sources."""
        return socket.create_connection(
            ("127.0.0.1", self.port), timeout=30.0, source_address=(rng.choice(self.sources), 0)
        )

    def login(self) -> bytes:
        """The header that lets a request in."""
        return b"" if self.key is None else f"authorization: Bearer {self.key}\r\n".encode()


Bytes = bytes | float
"""What is sent next, or a pause in seconds."""


def read_answer(connection: socket.socket, seconds: float = HANGS_SECONDS) -> Answer:
    """Everything until the server closes, or nothing has come for a while after the first byte."""
    content, deadline = b"", time.monotonic() + seconds
    while len(content) < MOST_BYTES:
        connection.settimeout(max(0.1, min(deadline - time.monotonic(), 5.0 if content else 1e9)))
        try:
            piece = connection.recv(2**16)
        except TimeoutError:
            return Answer(status_of(content), content, not content)
        except OSError:
            break
        if not piece:
            break
        content += piece
    return Answer(status_of(content), content)


def status_of(content: bytes) -> int:
    parts = content[:32].split(b" ")
    is_http = content.startswith(b"HTTP/1.") and len(parts) > 1 and parts[1][:3].isdigit()
    return int(parts[1][:3]) if is_http else 0


def send(target: Target, rng: random.Random, pieces: Iterable[Bytes]) -> Answer:
    """Send bytes as they stand, and read the answer."""
    with target.connect(rng) as connection:
        with suppress(OSError):  # the server may close before all has been sent
            for piece in pieces:
                if isinstance(piece, bytes):
                    connection.sendall(piece)
                else:
                    time.sleep(piece)
        return read_answer(connection)


def request(
    target: Target,
    rng: random.Random,
    method: str,
    path: str | bytes,
    body: bytes = b"",
    headers: bytes = b"",
    *,
    host: bytes = b"127.0.0.1",
    logged_in: bool = True,
) -> Answer:
    """One whole request on a connection of its own."""
    line = path if isinstance(path, bytes) else path.encode("utf-8", "surrogatepass")
    length = b"content-length: %d\r\n" % len(body) if body else b""
    head = b"%s %s HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n" % (method.encode(), line, host)
    login = target.login() if logged_in else b""
    return send(target, rng, [head + login + length + headers + b"\r\n" + body])


class Part(NamedTuple):
    """Of a form."""

    name: str
    content: bytes
    filename: str | None = None


def form(parts: Iterable[Part]) -> tuple[bytes, bytes]:
    """Body and header of a form."""
    body = b""
    for part in parts:
        body += b'--cut\r\ncontent-disposition: form-data; name="' + part.name.encode() + b'"'
        if part.filename is not None:
            name = part.filename.encode("utf-8", "surrogatepass")
            body += b'; filename="' + name + b'"\r\ncontent-type: application/octet-stream'
        body += b"\r\n\r\n" + part.content + b"\r\n"
    return body + b"--cut--\r\n", b"content-type: multipart/form-data; boundary=cut\r\n"


def post_video(target: Target, rng: random.Random, *parts: Part) -> Answer:
    """Ask ``moda serve`` for a video."""
    body, kind = form(parts)
    return request(target, rng, "POST", "/v1/videos", body, kind)


def media(target: Target) -> tuple[Part, Part]:
    """What is not hostile in a form."""
    return Part("portrait", target.portrait, "p"), Part("speech", target.speech, "s")
