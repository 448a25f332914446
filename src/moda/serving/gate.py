"""The door of the server: every request passes here before anything else looks at it."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moda.serving.access import ApiKeys, RateLimit, is_own_origin, presented_key
from moda.serving.metrics import Metrics
from moda.serving.settings import LOOPBACK_HOSTS, ServerSettings

OPEN_PATHS = ("/", "/api", "/healthz", "/readyz", "/openapi.json")
"""What anybody may see: nothing here tells anything of anybody or makes any work."""
OPEN_FOLDER = "/page/"
HEALTH_PATHS = ("/healthz", "/readyz")
SMALL_BODY_BYTES = 256 * 1024
FORM_BYTES = 64 * 1024
"""Of a form besides its files."""
UPLOAD_PATH = "/v1/videos"

SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "content-security-policy": (
        "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
        "connect-src 'self' ws: wss:; object-src 'none'; frame-ancestors 'none'"
    ),
    "permissions-policy": "microphone=(self), camera=()",
    "cross-origin-resource-policy": "same-origin",
}


class Gate:
    """Hosts, origins, rates, keys and sizes, in this order; see :class:`ServerSettings`."""

    def __init__(self, app: ASGIApp, settings: ServerSettings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        self._keys = ApiKeys(settings.api_keys)
        self._rate = RateLimit(settings.requests_per_minute)
        self._hosts = {*LOOPBACK_HOSTS, *(_host(origin) for origin in settings.allowed_origins)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        path = scope["path"]
        send = self._watch(scope, send)
        refusal = self._refusal(scope, headers, path)
        if refusal is not None:
            status, detail, extra = refusal
            await refuse(scope, receive, send, status, detail, extra)
            return
        if scope["type"] == "http":
            receive = _limited(receive, self._body_limit(path))
        await self._app(scope, receive, send)

    def _refusal(
        self, scope: Scope, headers: Headers, path: str
    ) -> tuple[int, str, dict[str, str]] | None:
        """Status, reason and headers of a refusal; None for who may pass."""
        settings = self._settings
        if settings.is_loopback and _host(f"//{headers.get('host', '')}") not in self._hosts:
            return 421, "this server is not known by that name; see --allow-origin", {}
        if not is_own_origin(headers, settings.allowed_origins):
            return 403, "pages of other servers may not use this one; see --allow-origin", {}
        if path in HEALTH_PATHS:
            return None
        client = scope.get("client") or ("unknown", 0)
        wait = self._rate.wait_seconds(str(client[0]))
        if wait:
            return 429, f"too many requests; wait {wait} s", {"retry-after": str(wait)}
        is_open = path in OPEN_PATHS or path.startswith(OPEN_FOLDER)
        if not is_open and not self._keys.accept(presented_key(headers)):
            return 401, "an API key is needed", {"www-authenticate": "Bearer"}
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            return 400, "the length of the body is no number", {}
        if int(length) > self._body_limit(path):
            return 413, f"the body is larger than {self._body_limit(path)} bytes", {}
        return None

    def _body_limit(self, path: str) -> int:
        if path.rstrip("/") != UPLOAD_PATH:
            return SMALL_BODY_BYTES
        return self._settings.max_portrait_bytes + self._settings.max_speech_bytes + FORM_BYTES

    def _watch(self, scope: Scope, send: Send) -> Send:
        """Counts answers by status and adds the headers that every answer has."""

        async def watched(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                if scope["path"] not in HEALTH_PATHS:
                    self._metrics.requests.labels(str(message["status"])).inc()
                message.setdefault("headers", [])
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        return watched


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


def _limited(receive: Receive, limit: int) -> Receive:
    """Passes a body on up to a limit, whatever the header has promised."""
    count = 0

    async def limited() -> Message:
        nonlocal count
        message = await receive()
        if message["type"] == "http.request":
            count += len(message.get("body", b""))
            if count > limit:
                raise HTTPException(413, f"the body is larger than {limit} bytes")
        return message

    return limited


def _host(origin: str) -> str:
    """Host name of an origin, without scheme and port."""
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""
