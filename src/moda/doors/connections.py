"""Connections with limits: how many, of whom, and how long each may keep the server waiting.

uvicorn waits for the first request and for its headers for ever, and refuses everybody, health
checks too, once it has as many connections as it may. Here a connection that asks nothing makes
room for one that comes.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from moda.doors.answers import HEALTH_PATHS, refuse
from moda.doors.clients import network_of

MAX_CONNECTIONS, MAX_OF_ONE_ADDRESS = 512, 64
RESERVE = 32
"""Connections beyond the limits on which health checks are still answered."""
HEAD_SECONDS = 10.0
"""From connecting, or from the last answer, to the end of a request's headers."""
BODY_SECONDS, READ_SECONDS = 20.0, 30.0
"""What a client may wait while it sends a body, or takes an answer; then it must be faster than
:data:`SLOWEST_BYTES`."""
SLOWEST_BYTES = 16 * 1024
"""Per second."""
SWEEP_SECONDS = 1.0
TOO_LATE = (
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-type: text/plain\r\n"
    b"content-length: 28\r\n\r\nthe request came too slowly\n"
)


class Connections:
    """All connections of a server, the oldest first. Used in its event loop only."""

    def __init__(self, *, behind_proxy: bool) -> None:
        self._behind_proxy = behind_proxy
        self._open: dict[Any, str] = {}
        """Addresses by connections."""

    def admit(self, connection: GuardedHttp) -> None:
        """Take a connection, and close one that asks nothing where there are too many."""
        address = network_of(str((connection.client or ("unknown",))[0]))
        crowd = [known for known, of in self._open.items() if of == address]
        if self._behind_proxy or len(crowd) < MAX_OF_ONE_ADDRESS:
            crowd = list(self._open) if len(self._open) >= MAX_CONNECTIONS else []
        idle = next((known for known in crowd if known.asks_nothing), None)
        if idle is not None:
            idle.give_up()
        elif crowd and len(self._open) >= MAX_CONNECTIONS + RESERVE:
            connection.transport.abort()
            return
        elif crowd:
            connection.is_surplus = True
            connection.app = partial(_health_only, connection.app)
        if not self._open:
            connection.loop.call_later(SWEEP_SECONDS, self._sweep, connection.loop)
        self._open[connection] = address

    def replace(self, connection: GuardedHttp, socket: GuardedSocket) -> None:
        """A connection has become a WebSocket, which has limits of its own."""
        address = self._open.pop(connection, None)
        if address is not None and not socket.transport.is_closing():
            self._open[socket] = address

    def release(self, connection: GuardedHttp | GuardedSocket) -> None:
        """A connection is over."""
        self._open.pop(connection, None)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        for connection in list(self._open):
            connection.check(loop.time())
        if self._open:
            loop.call_later(SWEEP_SECONDS, self._sweep, loop)


class GuardedHttp(H11Protocol):
    """uvicorn's protocol with limits on time."""

    def __init__(self, connections: Connections, **settings: Any) -> None:
        super().__init__(**settings)
        self._table = connections
        self.is_surplus = False
        self._since = 0.0
        """When the client's turn began."""
        self._count = 0
        """Bytes since then."""
        self._known_cycle: object = None
        self._read_until: float | None = None

    @property
    def asks_nothing(self) -> bool:
        """Whether there is no request, or not all of its headers."""
        return self.cycle is None or bool(self.cycle.response_complete)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin_turn()
        self._table.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._table.release(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._count += len(data)
        super().data_received(data)
        if self.cycle is not self._known_cycle:  # the headers are there
            self._known_cycle = self.cycle
            self._begin_turn()

    def on_response_complete(self) -> None:
        self._begin_turn()
        super().on_response_complete()

    def resume_writing(self) -> None:
        self._read_until = None
        super().resume_writing()

    def _should_upgrade_to_ws(self) -> bool:
        return not self.is_surplus and super()._should_upgrade_to_ws()

    def handle_websocket_upgrade(self, event: Any) -> None:
        super().handle_websocket_upgrade(event)
        socket = self.transport.get_protocol()
        if isinstance(socket, GuardedSocket):
            socket.table = self._table
            self._table.replace(self, socket)
        else:
            self._table.release(self)

    def send_400_response(self, msg: str) -> None:
        """A request turns out to be malformed; what answers it already can say nothing more."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def give_up(self) -> None:
        """Close; with a word to a client that has begun a request."""
        if not self.transport.is_closing():
            has_begun = self._count > 0 if self.asks_nothing else not self.cycle.response_started
            if has_begun:
                self.transport.write(TOO_LATE)
            self.transport.close()

    def check(self, now: float) -> None:
        """Give the client up if it keeps the server waiting."""
        waiting = self.transport.get_write_buffer_size()
        if waiting:
            if self._read_until is None:
                self._read_until = now + READ_SECONDS + waiting / SLOWEST_BYTES
            if now > self._read_until:
                self.transport.abort()
            return
        self._read_until = None
        if self.asks_nothing:
            if now > self._since + HEAD_SECONDS:
                self.give_up()
        elif self.flow.read_paused:  # the server's turn
            self._since += SWEEP_SECONDS
        elif self.cycle.more_body and now > self._since + self._body_seconds:
            self.give_up()

    @property
    def _body_seconds(self) -> float:
        return BODY_SECONDS + self._count / SLOWEST_BYTES

    def _begin_turn(self) -> None:
        self._since, self._count = self.loop.time(), 0


class GuardedSocket(WebSocketsSansIOProtocol):
    """A WebSocket, which counts as a connection of its address."""

    table: Connections | None = None
    asks_nothing = False

    def connection_lost(self, exc: Exception | None) -> None:
        if self.table is not None:
            self.table.release(self)
        super().connection_lost(exc)

    def check(self, now: float) -> None:
        """Sessions have limits of their own, and answer to pings."""


def guard(config: Config, *, behind_proxy: bool) -> None:
    """Put the limits on all connections of a server that are made from now on."""
    http: Any = partial(GuardedHttp, Connections(behind_proxy=behind_proxy))
    config.http = config.http_protocol_class = http
    config.ws = config.ws_protocol_class = GuardedSocket
    config.limit_concurrency = None


async def _health_only(app: Any, scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] in HEALTH_PATHS:
        await app(scope, receive, send)
        return
    headers = {"retry-after": "10", "connection": "close"}
    await refuse(scope, receive, send, 503, "too many connections; try again later", headers)
