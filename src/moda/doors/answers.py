"""Refusals, and bodies that have a limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

HEALTH_PATHS = ("/healthz", "/readyz")
"""Answered to whoever asks, even where there is no room for anything else."""


class BodyError(HTTPException):
    """A body is larger than it may be."""

    def __init__(self, limit: int) -> None:
        super().__init__(413, f"the body is larger than {limit} bytes")


async def refuse(
    scope: Scope,
    receive: Receive,
    send: Send,
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Answer a request, or the handshake of a WebSocket, with a status and a reason."""
    if scope["type"] == "websocket":
        await receive()  # the handshake
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008, "reason": detail[:120]})
            return
    await JSONResponse({"detail": detail}, status, headers)(scope, receive, send)


def refused_length(headers: Mapping[str, str], limit: int) -> tuple[int, str] | None:
    """Status and reason for a body whose header says a length that cannot be."""
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdecimal()):
        return 400, "the length of the body is no number"
    if len(length) > 15 or int(length) > limit:
        return 413, f"the body is larger than {limit} bytes"
    return None


def limited(receive: Receive, limit: int) -> Receive:
    """Passes a body on up to a limit, whatever the header has promised."""
    count = 0

    async def passed_on() -> Message:
        nonlocal count
        message = await receive()
        if message["type"] == "http.request":
            count += len(message.get("body", b""))
            if count > limit:
                raise BodyError(limit)
        return message

    return passed_on


def with_headers(
    send: Send, headers: Mapping[str, str], watch: Callable[[Any], None] | None = None
) -> Send:
    """Adds headers to every answer that does not have them; ``watch`` is told the status."""

    async def passed_on(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            if watch is not None:
                watch(message["status"])
            message.setdefault("headers", [])
            given = MutableHeaders(scope=message)
            for name, value in headers.items():
                given.setdefault(name, value)
        await send(message)

    return passed_on
