"""By which names a server may be called, and pages of which servers may call it."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")


def is_own_origin(headers: Mapping[str, str], allowed: Iterable[str]) -> bool:
    """Whether a request comes from no web page, from a page of this server, or an allowed one.

    Browsers send ``Origin`` with every WebSocket and every request that changes something; a page
    of somebody else must not use a server on the visitor's own machine.
    """
    origin = headers.get("origin")
    if origin is None or origin in allowed:
        return True
    try:
        place = urlsplit(origin).netloc
    except ValueError:
        return False
    return bool(place) and place.lower() == headers.get("host", "").lower()


def host_of(origin: str) -> str:
    """Host name of an origin, without scheme and port; empty where there is none."""
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""


class Names:
    """The names and origins that a server answers to.

    Somebody else's name that leads to this machine (DNS rebinding) would make a foreign page one of
    this server's own. An address in digits can't do that.

    Args:
        host: Address that the server listens on.
        allowed_origins: Pages of other servers that may use this one, as ``https://host``.
        has_login: Whether everybody must log in. Then another name of the server does no harm, as
            browsers keep logins by name; only a loopback server is still strict.
        is_shared: Whether everybody reaches the server anyway, by a name that is not known yet.
    """

    def __init__(
        self,
        host: str,
        allowed_origins: Iterable[str],
        *,
        has_login: bool,
        is_shared: bool = False,
    ) -> None:
        self._is_loopback = host in LOOPBACK_HOSTS
        self._is_strict = not is_shared and (self._is_loopback or not has_login)
        self._origins = set(allowed_origins)
        self._hosts = {*LOOPBACK_HOSTS, *map(host_of, self._origins)}
        if not self._is_loopback:
            self._hosts |= {host.lower(), socket.gethostname().lower()}

    def refusal(self, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Status and reason for a request that has come by a wrong name or from a wrong page."""
        if self._is_strict and not self._knows(host_of(f"//{headers.get('host', '')}")):
            return 421, "this server is not known by that name; see --allow-origin"
        if not is_own_origin(headers, self._origins):
            return 403, "pages of other servers may not use this one; see --allow-origin"
        return None

    def _knows(self, host: str) -> bool:
        if host in self._hosts:
            return True
        return not self._is_loopback and _is_address(host)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
