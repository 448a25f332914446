"""Tells an address of the client's that a video is done or has failed.

Only addresses that the operator allows are called: no redirect is followed, no proxy is used, and
of the answer nothing but its status is read. The message is signed as Standard Webhooks says, with
the client's own API key as the secret.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
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
    for pause in (0.0, *RETRIES_AFTER_SECONDS):
        await asyncio.sleep(pause)
        headers = signature_headers(identifier, body, secret)
        status = 0
        with suppress(OSError, TimeoutError, ValueError, IndexError, ssl.SSLError):
            async with asyncio.timeout(TIMEOUT_SECONDS):
                status = await _post(urlsplit(address), headers, body)
        if 200 <= status < 300:
            return True
        if status == 410:  # the receiver wants no more
            return False
    logger.warning("the webhook of video %s was not taken", identifier)
    return False


async def _post(address: SplitResult, headers: Mapping[str, str], body: bytes) -> int:
    """The status with which a message is answered."""
    secure = ssl.create_default_context() if address.scheme == "https" else None
    reader, writer = await asyncio.open_connection(
        address.hostname, _port(address), ssl=secure, limit=2**12
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
