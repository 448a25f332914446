"""The server as an application: all its addresses, and what lives as long as it does."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

from moda.doors import palette
from moda.encoders.live_speech import LIVE_RATES_HZ
from moda.errors import MissingExtraError, ModaError
from moda.serving.access import ConflictError, RefusedError
from moda.serving.gate import NO_PLACE, Gate
from moda.serving.live import portraits
from moda.serving.live.pool import SessionPool
from moda.serving.live.protocol import START_SCHEMA, read_start
from moda.serving.live.sessions import PeerSessions, SocketSession
from moda.serving.metrics import Metrics
from moda.serving.openapi import (
    BODY,
    COMMON,
    NAMES,
    Health,
    Readiness,
    Responses,
    allowed_methods,
    describe,
    refusals,
)
from moda.serving.settings import ServerSettings
from moda.serving.videos.api import router
from moda.serving.videos.queue import VideoJobs
from moda.serving.videos.voices import voices_router
from moda.speech_synthesis import espeak_is_installed
from moda.structures import EMOTIONS
from moda.version import __version__

PAGE = Path(__file__).parent / "page"
MAX_SDP_LENGTH = 100_000
logger = logging.getLogger("uvicorn.error")


class Offer(BaseModel):
    """How a WebRTC session begins."""

    sdp: str = Field(max_length=MAX_SDP_LENGTH, description="A session description")
    type: Literal["offer"] = "offer"
    start: dict[str, Any] = Field(
        default_factory=dict,
        description="As the start message of the WebSocket, without its type",
        json_schema_extra=START_SCHEMA,
    )


class Answer(BaseModel):
    """The server's side of a WebRTC session."""

    id: str
    sdp: str
    type: str = "answer"


class ServerInfo(BaseModel):
    """What a client needs to know."""

    version: str
    portraits: list[str]
    emotions: list[str]
    sample_rates: list[int]
    max_sessions: int
    free_sessions: int
    has_webrtc: bool
    has_speech_synthesis: bool
    ice_servers: list[dict[str, str]]
    max_speech_seconds: float


def create_app(settings: ServerSettings) -> FastAPI:
    """The server; its workers start with it and end with it."""
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        pool = SessionPool(settings, metrics)
        await pool.start()
        app.state.settings, app.state.pool = settings, pool
        app.state.jobs = VideoJobs(settings, metrics)
        app.state.peers = PeerSessions(pool, settings, metrics)
        app.state.is_ready = True
        try:
            yield
        finally:
            app.state.is_ready = False
            await app.state.peers.close()
            await app.state.jobs.close()
            await pool.close()

    app = FastAPI(
        title="MoDA",
        version=__version__,
        description="Talking-head videos of a portrait and speech, made on request or live.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(Gate, settings=settings, metrics=metrics)
    if settings.allowed_origins:  # outside of the gate: a browser asks first, without a key
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=("authorization", "content-type", "idempotency-key", "x-api-key"),
            expose_headers=("location", "retry-after"),
        )
    app.include_router(router)
    app.include_router(portraits.router)
    app.include_router(voices_router)
    describe(app, has_keys=bool(settings.api_keys))
    _add_health(app, metrics)
    _add_live(app, settings, metrics)
    _add_pages(app)
    _add_error_answers(app)
    return app


def _add_health(app: FastAPI, metrics: Metrics) -> None:
    @app.get("/healthz", tags=["health"], responses=NAMES)
    async def is_alive() -> Health:
        """Whether the server answers at all."""
        return Health(status="ok")

    not_ready: Responses = {503: {"description": "It cannot", "model": Readiness}}

    @app.get(
        "/readyz", tags=["health"], responses=NAMES | not_ready, response_model_exclude_none=True
    )
    async def is_ready(request: Request, response: Response) -> Readiness:
        """Whether it can do its work: workers, the queue of videos, folders and disk."""
        state = request.app.state
        alive, wanted = state.pool.num_alive, state.settings.max_sessions
        problems = state.jobs.problems()
        if alive < wanted:
            problems.append(f"{wanted - alive} of {wanted} live workers are missing")
        if state.is_ready and not problems:
            return Readiness(status="ready", workers=alive)
        response.status_code = 503
        return Readiness(status="not ready", workers=alive, problems=problems)

    counters: Responses = {200: {"content": {CONTENT_TYPE_LATEST: {"schema": {"type": "string"}}}}}

    @app.get("/metrics", tags=["health"], response_class=Response, responses=COMMON | counters)
    async def read_metrics() -> Response:
        """Counters for Prometheus."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _add_live(app: FastAPI, settings: ServerSettings, metrics: Metrics) -> None:
    @app.get("/v1/info", tags=["live"], responses=COMMON)
    async def read_info(request: Request) -> ServerInfo:
        """Whom a live session can show, and what this server allows."""
        pool: SessionPool = request.app.state.pool
        return ServerInfo(
            version=__version__,
            portraits=pool.portraits,
            emotions=list(EMOTIONS),
            sample_rates=list(LIVE_RATES_HZ),
            max_sessions=settings.max_sessions,
            free_sessions=pool.num_free,
            has_webrtc=find_spec("aiortc") is not None,
            has_speech_synthesis=espeak_is_installed(),
            ice_servers=[
                {name: value for name, value in server._asdict().items() if value}
                for server in settings.ice_servers
            ],
            max_speech_seconds=settings.max_speech_seconds,
        )

    @app.websocket("/v1/live")
    async def live(socket: WebSocket) -> None:
        await SocketSession(socket, socket.app.state.pool, settings, metrics).run()

    no_webrtc = refusals(
        _404="This server shows no live sessions", _501="This server has no WebRTC"
    )

    @app.post("/v1/live/offer", tags=["live"], status_code=201, responses=COMMON | BODY | no_webrtc)
    async def begin_peer_session(request: Request, offer: Offer) -> Answer:
        """Begin a session over WebRTC: sound in, picture and sound out."""
        peers: PeerSessions = request.app.state.peers
        if not settings.max_sessions:
            raise HTTPException(404, "this server shows no live sessions: it has no portrait")
        start, caller = read_start(dict(offer.start)), request.state.caller
        identifier, sdp = await peers.begin(start, offer.sdp, caller)
        return Answer(id=identifier, sdp=sdp)

    no_session = refusals(_404="There is no such session of this key")

    @app.delete(
        "/v1/live/{identifier}", tags=["live"], status_code=204, responses=COMMON | no_session
    )
    async def end_peer_session(request: Request, identifier: str) -> None:
        """End a session over WebRTC."""
        peers: PeerSessions = request.app.state.peers
        if not await peers.end(identifier, request.state.caller.owner):
            raise HTTPException(404, "there is no such session")


def _add_pages(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def read_page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    @app.get("/api", include_in_schema=False)
    async def read_api_page() -> FileResponse:
        return FileResponse(PAGE / "api.html")

    @app.get("/page/palette.css", include_in_schema=False)
    async def read_palette() -> Response:
        return Response(palette.style_sheet(), media_type="text/css")

    app.mount("/page", StaticFiles(directory=PAGE), name="page")


def _add_error_answers(app: FastAPI) -> None:
    async def invalid(request: Request, error: Exception) -> JSONResponse:
        """One line that names the field, without echoing what was sent."""
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:] if isinstance(part, str | int))
        return JSONResponse({"detail": f"{where[:80]}: {first['msg']}"}, 422)

    async def user_error(request: Request, error: Exception) -> JSONResponse:
        status = 501 if isinstance(error, MissingExtraError) else 422
        return JSONResponse({"detail": str(error)}, status)

    async def refused(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RefusedError)
        return JSONResponse({"detail": str(error)}, error.status, error.headers)

    async def conflict(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 409)

    async def no_place(request: Request, error: Exception) -> JSONResponse:
        logger.error("files of a request cannot be kept: %s", error)
        return JSONResponse({"detail": NO_PLACE}, 507)

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, AnyHTTPException)
        if isinstance(error.__cause__, OSError):  # while the body was read
            return await no_place(request, error.__cause__)
        if error.status_code == 405:
            error.headers = {"allow": allowed_methods(request.app, request.url.path)}
        return await http_exception_handler(request, error)

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=400)  # nobody reads it

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(ModaError, user_error)
    app.add_exception_handler(RefusedError, refused)
    app.add_exception_handler(ConflictError, conflict)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(OSError, no_place)
    app.add_exception_handler(AnyHTTPException, http_error)
