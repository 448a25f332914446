"""The door of the server: every request passes here before anything else looks at it."""

from __future__ import annotations

import logging
from contextlib import ExitStack

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from moda.doors.answers import HEALTH_PATHS, limited, refuse, refused_length, with_headers
from moda.doors.clients import Presence, RateLimit, client_of, without_proxy_headers
from moda.doors.names import Names
from moda.serving.access import ANYBODY, ApiKeys, RefusedError, presented_key
from moda.serving.live.portraits import PATH as PORTRAITS_PATH
from moda.serving.metrics import Metrics
from moda.serving.settings import FORM_BYTES, ServerSettings

OPEN_PATHS = ("/", "/api", "/healthz", "/readyz", "/openapi.json")
"""What anybody may see: nothing here tells anything of anybody or makes any work."""
OPEN_FOLDER = "/page/"
SMALL_BODY_BYTES = 256 * 1024
VIDEOS_PATH = "/v1/videos"
UPLOAD_PATHS = (VIDEOS_PATH, PORTRAITS_PATH)
REPEAT_HEADER = "idempotency-key"
MAX_AT_ONCE = 64
"""Requests and sockets of one client."""

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


NO_PLACE = "the server has no space for the files, or their folder is gone; try again later"
logger = logging.getLogger("uvicorn.error")
Refusal = tuple[int, str, dict[str, str]]
"""Status, reason and headers."""


class Gate:
    """Hosts, origins, rates, keys, sizes and room, in this order; see :class:`ServerSettings`."""

    def __init__(self, app: ASGIApp, settings: ServerSettings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        self._keys = ApiKeys(settings.api_keys)
        self._rate = RateLimit(settings.requests_per_minute)
        self._present = Presence(MAX_AT_ONCE)
        self._names = Names(
            settings.host, settings.allowed_origins, has_login=bool(settings.api_keys)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        client = client_of(scope, behind_proxy=self._settings.behind_proxy)
        if not self._settings.behind_proxy:
            scope = without_proxy_headers(scope)
        headers, path = Headers(scope=scope), scope["path"]
        counted = None if path in HEALTH_PATHS else self._count
        send = with_headers(send, SECURITY_HEADERS, counted)
        caller = self._keys.caller(presented_key(headers))
        scope.setdefault("state", {})["caller"] = caller or ANYBODY
        refusal = self._refusal(headers, path, client, is_known=caller is not None)
        with ExitStack() as stack:
            if refusal is None and path not in HEALTH_PATHS:
                stack.enter_context(self._present.counted(client))
                refusal = self._make_room(scope, headers, client, stack)
            if refusal is not None:
                status, detail, extra = refusal
                await refuse(scope, receive, send, status, detail, extra)
                return
            if scope["type"] == "http":
                receive = limited(receive, self._body_limit(path))
            await self._app(scope, receive, send)

    def _refusal(
        self, headers: Headers, path: str, client: str, *, is_known: bool
    ) -> Refusal | None:
        """Why a request may not pass; None for one that may."""
        wrong_name = self._names.refusal(headers)
        if wrong_name is not None:
            return (*wrong_name, {})
        if path in HEALTH_PATHS:
            return None
        wait = self._rate.wait_seconds(client)
        if wait:
            return 429, f"too many requests; wait {wait} s", {"retry-after": str(wait)}
        is_open = path in OPEN_PATHS or path.startswith(OPEN_FOLDER)
        if not is_open and not is_known:
            return 401, "an API key is needed", {"www-authenticate": "Bearer"}
        if self._present.is_full(client):
            return 429, f"more than {MAX_AT_ONCE} requests at once", {"retry-after": "1"}
        wrong_length = refused_length(headers, self._body_limit(path))
        return None if wrong_length is None else (*wrong_length, {})

    def _make_room(
        self, scope: Scope, headers: Headers, client: str, stack: ExitStack
    ) -> Refusal | None:
        """A place in the queue for a video, before anything of it is read."""
        path, state = _plain(scope["path"]), scope["app"].state
        if scope["type"] != "http" or scope["method"] != "POST" or path not in UPLOAD_PATHS:
            return None
        caller, repeat_key = scope["state"]["caller"], headers.get(REPEAT_HEADER)
        try:
            if path == PORTRAITS_PATH:
                stack.enter_context(state.pool.uploads.arriving(client))
            else:
                stack.enter_context(state.jobs.arriving(client, caller, repeat_key))
        except RefusedError as refused:
            return refused.status, str(refused), refused.headers
        except OSError as error:
            logger.error("there is no room for a request: %s", error)
            return 507, NO_PLACE, {}
        return None

    def _body_limit(self, path: str) -> int:
        limits = {
            VIDEOS_PATH: self._settings.max_upload_bytes,
            PORTRAITS_PATH: self._settings.max_portrait_bytes + FORM_BYTES,
        }
        return limits.get(_plain(path), SMALL_BODY_BYTES)

    def _count(self, status: int) -> None:
        self._metrics.requests.labels(str(status)).inc()


def _plain(path: str) -> str:
    return path.rstrip("/")
