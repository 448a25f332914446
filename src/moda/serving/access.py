"""Who may use the server: API keys."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping

from moda.errors import ModaError
from moda.serving.live.protocol import KEY_SUBPROTOCOL


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


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
