"""A client's live session: between its WebSocket, or its WebRTC connection, and a worker."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import suppress
from typing import Any, NamedTuple

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from moda.doors.answers import refuse
from moda.errors import InputError
from moda.serving.access import Caller, RefusedError
from moda.serving.live.pool import LiveWorker, SessionPool
from moda.serving.live.protocol import (
    CLOSE_BUSY,
    CLOSE_FAILED,
    CLOSE_NORMAL,
    CLOSE_REFUSED,
    SUBPROTOCOL,
    ProtocolError,
    Start,
    check_binary,
    read_control,
)
from moda.serving.metrics import Metrics
from moda.serving.settings import ServerSettings

START_SECONDS = 10.0
SEND_SECONDS = 5.0
"""A client that takes nothing for so long is given up."""
ANSWER_SECONDS = 20.0


class Ending(NamedTuple):
    """How a session is closed."""

    code: int
    reason: str


GONE = Ending(0, "the client has gone")


class StatisticsReport:
    """Adds what one session reports to the metrics, once."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._last = dict.fromkeys(("num_frames", "num_undrawn", "skipped_seconds"), 0.0)

    def add(self, now: dict[str, float]) -> None:
        """Count what is new in the fields of :class:`moda.live.LiveStatistics`."""
        new = {name: max(0.0, now[name] - last) for name, last in self._last.items()}
        self._last = {name: now[name] for name in self._last}
        self._metrics.frames.inc(new["num_frames"])
        self._metrics.undrawn.inc(new["num_undrawn"])
        self._metrics.skipped.inc(new["skipped_seconds"])
        self._metrics.late.set(now["max_late_seconds"])


class SocketSession:
    """One WebSocket from its handshake to its end; see docs/live.md for the protocol."""

    def __init__(
        self, socket: WebSocket, pool: SessionPool, settings: ServerSettings, metrics: Metrics
    ) -> None:
        self._socket, self._pool, self._settings = socket, pool, settings
        self._report = StatisticsReport(metrics)
        self._caller: Caller = socket.state.caller
        self._worker: LiveWorker | None = None
        self._heard = time.monotonic()

    async def run(self) -> None:
        """Serve the client; returns when the session is over."""
        socket = self._socket
        try:
            self._pool.require_place(self._caller)
        except RefusedError as refused:
            # The handshake is answered here, past what starlette knows of the socket.
            answer = refused.status, str(refused), refused.headers
            await refuse(socket.scope, socket._receive, socket._send, *answer)
            return
        offered = socket.scope.get("subprotocols", ())
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        try:
            ending = await self._serve()
        except (WebSocketDisconnect, RuntimeError, OSError):
            ending = GONE  # what is raised depends on where the connection broke
        if ending is not GONE and socket.application_state is WebSocketState.CONNECTED:
            with suppress(RuntimeError, OSError, WebSocketDisconnect, TimeoutError):
                async with asyncio.timeout(SEND_SECONDS):
                    await socket.close(ending.code, ending.reason[:120])

    async def _serve(self) -> Ending:
        try:
            async with asyncio.timeout(START_SECONDS):
                start = await self._read_start()
        except TimeoutError:
            return Ending(CLOSE_REFUSED, f"no start message in {START_SECONDS:.0f} s")
        except ProtocolError as error:
            return Ending(CLOSE_REFUSED, str(error))
        tasks = [
            asyncio.create_task(work)
            for work in (self._show(start), self._listen(start), self._watch_the_clock())
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read_start(self) -> Start:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        text = message.get("text")
        control = None if text is None else read_control(text)
        if not isinstance(control, Start):
            raise ProtocolError("the first message must be of type start")
        return control

    async def _show(self, start: Start) -> Ending:
        """Get a worker, and pass on what comes from it."""
        if self._pool.num_free == 0:
            await self._tell({"type": "waiting"})
        try:
            async with self._pool.lease(self._caller) as worker:
                self._worker = worker
                portrait = self._pool.uploads.find(self._caller.owner, start.portrait)
                worker.send("open", start, portrait)
                try:
                    return await self._pass_on(worker)
                finally:
                    self._worker = None
        except RefusedError as refused:
            return Ending(CLOSE_BUSY, str(refused))

    async def _pass_on(self, worker: LiveWorker) -> Ending:
        while True:
            word, *values = await worker.receive()
            if word == "frame":
                try:
                    async with asyncio.timeout(SEND_SECONDS):
                        await self._socket.send_bytes(values[0])
                except TimeoutError:
                    return Ending(CLOSE_REFUSED, "the client takes frames too slowly")
            elif word == "event":
                await self._tell(values[0])
            elif word == "statistics":
                self._report.add(values[0])
            elif word == "rejected":
                return Ending(CLOSE_REFUSED, values[0])
            elif word == "ended":
                await self._tell({"type": "ended"})
                return Ending(CLOSE_NORMAL, values[0])
            elif word == "too_slow":
                return Ending(CLOSE_REFUSED, "the client takes frames too slowly")
            elif word == "gone":
                return Ending(CLOSE_FAILED, "the session's process died; begin again")

    async def _listen(self, start: Start) -> Ending:
        """Pass on what comes from the client."""
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return GONE
            self._heard = time.monotonic()
            data, text = message.get("bytes"), message.get("text")
            try:
                if self._worker is not None and self._worker.is_behind:
                    raise ProtocolError("more comes than can be taken")
                if data is not None:
                    check_binary(data, follow=start.follow)
                    if self._worker is not None:
                        self._worker.send("camera" if start.follow else "sound", data)
                    continue
                control = read_control(text or "")
                if isinstance(control, Start):
                    raise ProtocolError("the session has been started already")
            except ProtocolError as error:
                return Ending(CLOSE_REFUSED, str(error))
            if self._worker is not None:
                self._worker.send("control", control)

    async def _watch_the_clock(self) -> Ending:
        begun = time.monotonic()
        while True:
            await asyncio.sleep(1.0)
            now = time.monotonic()
            if now - begun > self._settings.session_seconds:
                return Ending(CLOSE_NORMAL, "the session has reached its longest time")
            if now - self._heard > self._settings.idle_seconds:
                return Ending(CLOSE_NORMAL, "nothing was heard from the client for too long")

    async def _tell(self, event: dict[str, Any]) -> None:
        async with asyncio.timeout(SEND_SECONDS):
            await self._socket.send_json(event)


class PeerSessions:
    """Sessions over WebRTC, which go on after the request that began them."""

    def __init__(self, pool: SessionPool, settings: ServerSettings, metrics: Metrics) -> None:
        self._pool, self._settings, self._metrics = pool, settings, metrics
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        """By owner and identifier."""

    async def begin(self, start: Start, sdp: str, caller: Caller) -> tuple[str, str]:
        """Identifier and SDP answer of a new session.

        Raises:
            QuotaError: The caller has all sessions that it may have.
            BusyError: no session is free; WebRTC does not wait in line.
            InputError: the offer or the portrait cannot be used.
        """
        self._pool.require_place(caller)
        if self._pool.num_free == 0:
            raise self._pool.refused()
        identifier = secrets.token_urlsafe(16)
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._run(start, sdp, answer, caller))
        name = caller.owner, identifier
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._tasks.pop(name, None))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return identifier, await answer
        except TimeoutError:
            task.cancel()
            raise InputError("the WebRTC offer was not answered in time") from None
        except BaseException:
            task.cancel()
            raise

    async def end(self, identifier: str, owner: str) -> bool:
        """End a session of an owner; whether there was one."""
        task = self._tasks.get((owner, identifier))
        if task is None:
            return False
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return True

    async def close(self) -> None:
        """End all sessions."""
        for owner, identifier in list(self._tasks):
            await self.end(identifier, owner)

    async def _run(
        self, start: Start, sdp: str, answer: asyncio.Future[str], caller: Caller
    ) -> None:
        report = StatisticsReport(self._metrics)
        try:
            async with (
                asyncio.timeout(self._settings.session_seconds),
                self._pool.lease(caller) as worker,
            ):
                portrait = self._pool.uploads.find(caller.owner, start.portrait)
                worker.send("offer", start, portrait, sdp, self._settings.ice_servers)
                while True:
                    word, *values = await worker.receive()
                    if word == "answer":
                        answer.set_result(values[0])
                    elif word == "statistics":
                        report.add(values[0])
                    elif word == "rejected":
                        answer.set_exception(InputError(values[0]))
                        return
                    elif word in ("ended", "gone"):
                        return
        except TimeoutError:
            return
        finally:
            if not answer.done():
                answer.set_exception(InputError("the session ended before it was answered"))
