"""Who may use the server, and how much: API keys with quotas."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from moda.errors import InputError, ModaError
from moda.serving.live.protocol import KEY_SUBPROTOCOL

MIN_KEY_LENGTH = 16
MAX_QUOTA = 1_000_000


class RefusedError(ModaError):
    """Not now; ``retry_seconds`` later it may be possible."""

    status: int
    """Of HTTP."""

    def __init__(self, message: str, retry_seconds: int) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds

    @property
    def headers(self) -> dict[str, str]:
        """What goes with the answer."""
        return {"retry-after": str(self.retry_seconds)}


class BusyError(RefusedError):
    """There is no room for one more."""

    status = 503


class QuotaError(RefusedError):
    """The key has used up what it may."""

    status = 429


class ConflictError(ModaError):
    """Two requests that cannot both be answered come at once."""


class Quotas(NamedTuple):
    """What one key may do; None is as much as the server can."""

    videos: int | None = None
    """That are made or wait at once."""
    minutes: int | None = None
    """Of finished video within a day, in UTC."""
    sessions: int | None = None
    """Live, at once."""


class Caller(NamedTuple):
    """Whose request it is."""

    owner: str
    """Tells keys apart and does not tell what they are; empty on a server without keys."""
    quotas: Quotas


ANYBODY = Caller("", Quotas())


def read_key(line: str) -> tuple[str, Quotas]:
    """A key with its quotas, as ``KEY videos=2 minutes=60 sessions=1``.

    Raises:
        InputError: The key is too short or has unusual characters, or a quota is unknown.
    """
    key, *words = line.split() or [""]
    if len(key) < MIN_KEY_LENGTH or not key.isascii() or not key.isprintable():
        raise InputError(
            f"an API key has {len(key)} characters or unusual ones; use at least "
            f"{MIN_KEY_LENGTH} letters and digits"
        )
    quotas: dict[str, int] = {}
    for word in words:
        match = re.fullmatch(r"([a-z]+)=([0-9]{1,7})", word)
        if match is None or match[1] not in Quotas._fields or int(match[2]) > MAX_QUOTA:
            raise InputError(
                f"{word[:40]!r} behind an API key is no quota; write videos=2, minutes=60 or "
                f"sessions=1, up to {MAX_QUOTA}"
            )
        quotas[match[1]] = int(match[2])
    return key, Quotas(**quotas)


def owner_of(key: str) -> str:
    """The name under which a key's videos are kept."""
    return hashlib.sha256(b"owner " + _digest(key)).hexdigest()[:16]


class ApiKeys:
    """Keys, of which only hashes are kept. Raises :class:`InputError` as :func:`read_key`."""

    def __init__(self, lines: Iterable[str]) -> None:
        keys = [read_key(line) for line in lines]
        self._callers = [(_digest(key), Caller(owner_of(key), quotas)) for key, quotas in keys]

    def caller(self, presented: str | None) -> Caller | None:
        """Whose key it is, in a time that does not tell how nearly; None for nobody's."""
        if not self._callers:
            return ANYBODY
        digest = _digest(presented or "")
        matches = [known for own, known in self._callers if hmac.compare_digest(digest, own)]
        return matches[0] if matches and presented is not None else None


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
