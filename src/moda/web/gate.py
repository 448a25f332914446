"""The door of the page: every request passes here before Gradio looks at it."""

from __future__ import annotations

import logging
import secrets
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moda.doors.answers import HEALTH_PATHS, limited, refuse, refused_length, with_headers
from moda.doors.clients import Presence, RateLimit, client_of, without_proxy_headers
from moda.doors.names import Names
from moda.files import ScratchFolder
from moda.strict_json import parse_json
from moda.web.uploads import Uploads, is_logged_in

logger = logging.getLogger("uvicorn.error")
API = "/gradio_api/"
UPLOAD_PATH = f"{API}upload"
FILE_PATHS = (f"{API}file=", f"{API}file/")
CLOSED = (
    f"{API}proxy=", f"{API}process_recording", f"{API}vibe-", f"{API}undo-vibe-",
    f"{API}component_server", f"{API}deep_link", f"{API}custom_component/", f"{API}dev/",
    f"{API}runs", f"{API}run-history/", f"{API}profiling/", "/monitoring",
)  # fmt: skip
"""What Gradio can do besides, and this page does not need."""
MAX_BODY_BYTES = 256 * 1024
MAX_AT_ONCE = 64
"""Requests of one client."""
LOGINS_PER_MINUTE = 10
COOKIE = "moda-visitor"
COOKIE_SETTINGS = "Path=/; HttpOnly; SameSite=Strict"

OWN_ORIGIN_ONLY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'"
)
"""What browsers enforce: the page loads nothing from, and sends nothing to, another server."""
SECURITY_HEADERS = {
    "content-security-policy": OWN_ORIGIN_ONLY,
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Gate:
    """Hosts, origins, rates, sizes, and the files that a visitor may name."""

    def __init__(
        self,
        app: ASGIApp,
        names: Names,
        uploads: Uploads,
        scratch: ScratchFolder,
        *,
        behind_proxy: bool,
    ) -> None:
        self._app, self._names, self._uploads = app, names, uploads
        self._scratch = scratch
        self._behind_proxy = behind_proxy
        self._logins = RateLimit(LOGINS_PER_MINUTE)
        self._present = Presence(MAX_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        client = client_of(scope, behind_proxy=self._behind_proxy)
        if not self._behind_proxy:
            scope = without_proxy_headers(scope)
        send = with_headers(send, self._headers(scope))
        refusal = self._refusal(scope, client)
        if refusal is not None:
            await refuse(scope, receive, send, *refusal)
            return
        with self._present.counted(client):
            try:
                await self._pass(scope, receive, send, client)
            except HTTPException as error:
                await refuse(scope, receive, send, error.status_code, error.detail, error.headers)
            except ClientDisconnect:
                return
            except OSError as error:
                logger.error("there is no place for files: %s", error)
                await refuse(scope, receive, send, 507, "there is no place for files here")

    async def _pass(self, scope: Scope, receive: Receive, send: Send, client: str) -> None:
        """Do what is asked, or let Gradio do it."""
        path, request = scope["path"], Request(scope)
        if path in HEALTH_PATHS:
            await self._health(path)(scope, receive, send)
            return
        is_upload = path.rstrip("/") == UPLOAD_PATH
        receive = limited(receive, self._body_limit(path))
        if is_upload and scope["method"] == "POST":
            if not is_logged_in(scope["app"], request):
                raise HTTPException(401, "log in first")
            self._scratch.restore()
            visitor = _visitor(request)
            kept = await self._uploads.take(Request(scope, receive), client, visitor)
            scope["app"].get_blocks().upload_file_set.update(kept)
            await JSONResponse(kept)(scope, receive, send)
            return
        if path.startswith(API) and scope["method"] == "POST":
            body = await _body(receive)
            for named in _paths(_json(body)):
                if not self._uploads.may_use(client, _visitor(request), named):
                    raise HTTPException(403, "only files that you have uploaded can be used")
            receive = _replayed(body, receive)
        await self._ask_gradio(scope, receive, send)

    async def _ask_gradio(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Gradio's answer; over questions that make no sense it stumbles, which is no 500."""
        has_stumbled = False

        async def passed_on(message: Message) -> None:
            nonlocal has_stumbled
            if message["type"] == "http.response.start" and message["status"] == 500:
                kind = Headers(raw=message.get("headers", [])).get("content-type", "")
                if kind.startswith("application/json"):  # the reason, for programs that ask
                    message["status"] = 422
                else:
                    has_stumbled = True
            if not has_stumbled:
                await send(message)

        try:
            await self._app(scope, receive, passed_on)
        except (HTTPException, ClientDisconnect, OSError):
            raise
        except Exception as error:
            logger.warning("Gradio could not answer %s: %r", scope["path"][:200], error)
        if has_stumbled:
            await refuse(scope, receive, send, 400, "the page does not understand this request")

    def _health(self, path: str) -> JSONResponse:
        """Whether the page answers, and whether it could take a file."""
        if path == HEALTH_PATHS[0]:
            return JSONResponse({"status": "ok"})
        try:
            free = shutil.disk_usage(self._scratch.restore()).free
        except OSError as error:
            return JSONResponse({"status": "not ready", "problems": [str(error.strerror)]}, 503)
        if free < self._uploads.max_body_bytes:
            return JSONResponse({"status": "not ready", "problems": ["the disk is full"]}, 503)
        return JSONResponse({"status": "ready"})

    def _refusal(self, scope: Scope, client: str) -> tuple[int, str] | None:
        """Status and reason for a request that may not pass."""
        headers, path = Headers(scope=scope), scope["path"]
        wrong_name = self._names.refusal(headers)
        if wrong_name is not None or path in HEALTH_PATHS:
            return wrong_name
        if scope["type"] == "websocket" or path.startswith(CLOSED):
            return 404, "there is nothing here"
        if self._present.is_full(client):
            return 429, f"more than {MAX_AT_ONCE} requests at once"
        if path.startswith("/login") and scope["method"] == "POST":
            wait = self._logins.wait_seconds(client)
            if wait:
                return 429, f"too many attempts to log in; wait {wait} s"
        if path.startswith(FILE_PATHS) and not self._may_fetch(scope, client):
            return 403, "this file is not for you"
        return refused_length(headers, self._body_limit(path))

    def _may_fetch(self, scope: Scope, client: str) -> bool:
        """Gradio answers for its own folder; what others have uploaded stays with them."""
        named = scope["path"][len(FILE_PATHS[0]) :]
        if "://" in named or named.startswith(("//", "http:", "https:")):
            return False
        return not self._uploads.is_strangers(client, _visitor(Request(scope)), named)

    def _body_limit(self, path: str) -> int:
        is_upload = path.rstrip("/") == UPLOAD_PATH
        return self._uploads.max_body_bytes if is_upload else MAX_BODY_BYTES

    def _headers(self, scope: Scope) -> Mapping[str, str]:
        if scope["type"] != "http" or scope["path"] != "/" or _visitor(Request(scope)):
            return SECURITY_HEADERS
        cookie = f"{COOKIE}={secrets.token_urlsafe(24)}; {COOKIE_SETTINGS}"
        return {**SECURITY_HEADERS, "set-cookie": cookie}


def _visitor(request: Request) -> str:
    """What tells the visitors of one address apart; programs need not have it."""
    return request.cookies.get(COOKIE, "")


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


def _json(body: bytes) -> Any:
    if not body:
        return None
    try:
        return parse_json(body)
    except ValueError:
        raise HTTPException(400, "the body is no JSON") from None


def _paths(value: Any) -> Iterator[str]:
    """All paths and addresses of files in JSON, wherever they are; nobody opens ``event_data``."""
    waiting = [value]
    if isinstance(value, dict):
        waiting = [entry for name, entry in value.items() if name != "event_data"]
        waiting.append({"path": value.get("path")})
    while waiting:
        found = waiting.pop()
        if isinstance(found, list):
            waiting.extend(found)
        elif isinstance(found, dict):
            waiting.extend(found.values())
            if found.get("path") is not None:
                yield str(found["path"])
