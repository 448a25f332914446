"""Who a client is, and how often it comes."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.datastructures import Headers

MAX_CLIENTS = 10_000
"""Clients whose rate is remembered; of more, those seen longest ago are forgotten."""
IPV6_NETWORK_BITS = 64
"""One household or machine has all addresses of such a network."""


def client_of(scope: Any, *, behind_proxy: bool) -> str:
    """The address that a request comes from.

    Behind a proxy it is the last one of ``X-Forwarded-For``: that which the proxy itself has added.
    Whatever stands before it was written by the client. The header of a peer on the open Internet
    is not believed, for that is no proxy of ours.
    """
    peer = str((scope.get("client") or ("unknown",))[0])
    if behind_proxy and is_near(peer):
        forwarded = Headers(scope=scope).getlist("x-forwarded-for")
        last = ",".join(forwarded).rpartition(",")[2].strip()
        if _address(last) is not None:
            peer = last
    return network_of(peer)


def without_proxy_headers(scope: Any) -> Any:
    """A request without what only a proxy may say; libraries believe it from everybody."""
    kept = [
        (name, value)
        for name, value in scope["headers"]
        if name not in (b"forwarded", b"x-real-ip") and not name.startswith(b"x-forwarded-")
    ]
    return {**scope, "headers": kept}


def is_near(peer: str) -> bool:
    """Whether an address is of this machine or a private network."""
    address = _address(peer)
    return address is not None and (address.is_private or address.is_loopback)


def network_of(peer: str) -> str:
    """What counts as one client: an IPv4 address, or a network of IPv6."""
    address = _address(peer)
    if not isinstance(address, ipaddress.IPv6Address):
        return peer if address is None else str(address)
    return str(ipaddress.ip_network((address, IPV6_NETWORK_BITS), strict=False))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.split("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


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


class Presence:
    """How much each client does at a time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counts: Counter[str] = Counter()

    def is_full(self, client: str) -> bool:
        """Whether the client does as much as it may."""
        return self._counts[client] >= self._limit

    @property
    def total(self) -> int:
        """What all clients do together."""
        return self._counts.total()

    @contextmanager
    def counted(self, client: str) -> Iterator[None]:
        """Count one more for as long as the context lasts."""
        self._counts[client] += 1
        try:
            yield
        finally:
            self._counts[client] -= 1
            if self._counts[client] <= 0:
                del self._counts[client]
