"""Who may use the server, and how often: API keys, origins of web pages, rates."""

from __future__ import annotations

import hashlib
import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlsplit

from moda.errors import ModaError
from moda.serving.live.protocol import KEY_SUBPROTOCOL

MAX_CLIENTS = 10_000
"""Clients whose rate is remembered; of more, those seen longest ago are forgotten."""


class BusyError(ModaError):
    """There is no room for one more; ``retry_seconds`` later there may be."""

    def __init__(self, message: str, retry_seconds: int) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class ApiKeys:
    """Keys, of which only hashes are kept."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    def accept(self, presented: str | None) -> bool:
        """Whether a key is one of them, in a time that does not tell which or how nearly."""
        if not self._digests:
            return True
        digest = _digest(presented or "")
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return presented is not None and any(matches)


def presented_key(headers: Mapping[str, str]) -> str | None:
    """The key of a request: ``Authorization: Bearer``, ``X-API-Key``, or a subprotocol."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value:
        return value.strip()
    if headers.get("x-api-key"):
        return headers["x-api-key"]
    for name in headers.get("sec-websocket-protocol", "").split(","):
        if name.strip().startswith(KEY_SUBPROTOCOL):
            return name.strip().removeprefix(KEY_SUBPROTOCOL)
    return None


def is_own_origin(headers: Mapping[str, str], allowed: Iterable[str]) -> bool:
    """Whether a request comes from no web page, from a page of this server, or an allowed one.

    Browsers send ``Origin`` with every WebSocket and every request that changes something; a page
    of somebody else must not use a server on the visitor's own machine.
    """
    origin = headers.get("origin")
    if origin is None or origin in allowed:
        return True
    return bool(origin != "null" and urlsplit(origin).netloc == headers.get("host"))


class RateLimit:
    """Lets each client through a number of times per minute, in bursts up to all of them."""

    def __init__(self, per_minute: int, now: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._now = float(per_minute), now
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Requests that each client has left, and when that was."""

    def wait_seconds(self, client: str) -> int:
        """0 if the client may pass, else whole seconds after which it may come again."""
        now = self._now()
        left, since = self._clients.pop(client, (self._limit, now))
        left = min(self._limit, left + (now - since) * self._limit / 60.0)
        passes = left >= 1.0
        self._clients[client] = (left - 1.0 if passes else left, now)
        if len(self._clients) > MAX_CLIENTS:
            self._clients.popitem(last=False)
        return 0 if passes else max(1, math.ceil((1.0 - left) * 60.0 / self._limit))


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
