"""Tells an address of the client's that a video is done or has failed.

Only addresses that the operator allows are called: no redirect is followed, no proxy is used, and
of the answer nothing but its status is read. A public name that is called without TLS, which would
prove who answers, must not lead into a private network: whoever owns the name could point it there.
The message is signed as Standard Webhooks says, with
the client's own API key as the secret.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import logging
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit

from moda.errors import InputError
from moda.version import __version__

MAX_ADDRESS_LENGTH = 2000
TIMEOUT_SECONDS = 10.0
RETRIES_AFTER_SECONDS = (2.0, 15.0, 60.0, 300.0)
PORTS = {"http": 80, "https": 443}
PRIVATE_ENDINGS = ("local", "localhost", "internal", "lan", "test", "home.arpa")
"""Of names that nobody owns on the Internet (RFC 2606, 6761, 6762, 8375; "internal" by ICANN)."""
logger = logging.getLogger("uvicorn.error")


def check_webhook(address: str) -> SplitResult:
    """The parts of an address that could be called. Raises :class:`InputError`."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        parts, port = SplitResult("", "", "", "", ""), 0
    is_plain = address.isascii() and address.isprintable() and not set(address) & set(' "<>\\^`{|}')
    if (
        not is_plain
        or len(address) > MAX_ADDRESS_LENGTH
        or parts.scheme not in PORTS
        or not parts.hostname
        or port == 0
        or "@" in parts.netloc
        or parts.fragment
    ):
        raise InputError(
            "a webhook is no plain address of http or https; write it as https://host/path"
        )
    return parts


def require_allowed(address: str, allowed: Iterable[str]) -> None:
    """Raise :class:`InputError` unless the operator allows the address.

    One without a path allows all paths of its host and port; one with a path, this path alone.
    """
    asked = check_webhook(address)
    for known in map(check_webhook, allowed):
        same_place = (asked.scheme, asked.hostname, _port(asked)) == (
            known.scheme,
            known.hostname,
            _port(known),
        )
        if same_place and known.path in ("", "/", asked.path):
            return
    raise InputError("this server may not call the webhook; see its option --allow-webhook")


def signature_headers(identifier: str, body: bytes, secret: str) -> dict[str, str]:
    """Headers of Standard Webhooks: HMAC-SHA256 of identifier, time and body."""
    seconds = str(int(time.time()))
    signed = f"{identifier}.{seconds}.".encode() + body
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    return {
        "webhook-id": identifier,
        "webhook-timestamp": seconds,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


async def deliver(address: str, identifier: str, body: bytes, secret: str) -> bool:
    """Send a message until it is taken, a few times at most; whether it was."""
    reason = ""
    for pause in (0.0, *RETRIES_AFTER_SECONDS):
        await asyncio.sleep(pause)
        headers = signature_headers(identifier, body, secret)
        status = 0
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                status = await _post(urlsplit(address), headers, body)
            reason = f"its answer has the status {status}"
        except (OSError, TimeoutError, ValueError, IndexError) as error:
            reason = str(error) or type(error).__name__
        if 200 <= status < 300:
            return True
        if status == 410:  # the receiver wants no more
            return False
    logger.warning("the webhook of video %s was not taken: %s", identifier, reason)
    return False


async def find_peer(address: SplitResult) -> str:
    """The IP address that may be called. Raises :class:`OSError` where there is none."""
    host, name = address.hostname or "", (address.hostname or "").rstrip(".")
    found = await asyncio.get_running_loop().getaddrinfo(
        host, _port(address), type=socket.SOCK_STREAM
    )
    peers = [str(entry[4][0]) for entry in found]
    is_ours = (
        "." not in name
        or _is_literal(name)
        or name.endswith(tuple(f".{ending}" for ending in PRIVATE_ENDINGS))
    )
    if address.scheme == "http" and not is_ours:
        peers = [peer for peer in peers if _is_public(peer)]
    if not peers:
        raise OSError(f"{host} leads into a private network; allow it by https or its IP address")
    return peers[0]


def _is_literal(host: str) -> bool:
    with suppress(ValueError):
        return bool(ipaddress.ip_address(host))
    return False


def _is_public(peer: str) -> bool:
    known = ipaddress.ip_address(peer.partition("%")[0])
    return (getattr(known, "ipv4_mapped", None) or known).is_global


async def _post(address: SplitResult, headers: Mapping[str, str], body: bytes) -> int:
    """The status with which a message is answered."""
    peer, secure, host = await find_peer(address), None, None
    if address.scheme == "https":
        secure, host = ssl.create_default_context(), address.hostname
    reader, writer = await asyncio.open_connection(
        peer, _port(address), ssl=secure, server_hostname=host, limit=2**12
    )
    try:
        target = (address.path or "/") + (f"?{address.query}" if address.query else "")
        fields = {
            "host": address.netloc,
            "user-agent": f"moda/{__version__}",
            "content-type": "application/json",
            "content-length": str(len(body)),
            "connection": "close",
            **headers,
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        writer.write(f"POST {target} HTTP/1.1\r\n{head}\r\n".encode("ascii") + body)
        await writer.drain()
        return int((await reader.readline()).split()[1])
    finally:
        writer.close()


def _port(address: SplitResult) -> int:
    return address.port or PORTS[address.scheme]
