"""Live sessions in processes of their own: workers that are ready, and clients that wait for one.

A worker that dies takes its session with it and nothing else; another one takes its place.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import queue
import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from moda.errors import ModaError
from moda.serving.access import BusyError, Caller, QuotaError
from moda.serving.live.portraits import PortraitUploads
from moda.serving.live.protocol import without_picture
from moda.serving.live.worker import run_worker
from moda.serving.metrics import Metrics
from moda.serving.settings import ServerSettings

READY_SECONDS = 600.0
"""Preparing a portrait takes seconds; compiling the inner loops the first time, a minute."""
CLOSE_SECONDS = 10.0
SOUND_ONLY_FRAMES = 12
"""A client that is this many frames behind gets no pictures until it has caught up."""
TOO_SLOW_FRAMES = 100
MAX_OUTGOING = 1000
RESTART_PAUSE_SECONDS = 1.0
RETRY_SECONDS = 10

Message = tuple[Any, ...]


class LiveWorker:
    """The server's end of one worker process; ``gone`` is told when it has ended, however."""

    def __init__(
        self,
        settings: ServerSettings,
        number: int,
        uploads: Path,
        gone: Callable[[LiveWorker], None],
    ) -> None:
        self.number = number
        self._gone = gone
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        told = replace(settings, api_keys=(), allowed_webhooks=(), host="127.0.0.1")
        self.process = context.Process(
            target=run_worker,
            args=(theirs, told, uploads, number),
            name="moda-live-worker",
            daemon=True,
        )
        self._loop = asyncio.get_running_loop()
        self._outgoing: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.num_frames_waiting = 0
        self.is_alive = True
        self._is_stopped = False
        self.previews: dict[str, bytes] = {}
        self.process.start()
        theirs.close()
        for body in (self._read, self._write):
            threading.Thread(target=body, name="moda-worker-pipe", daemon=True).start()

    def send(self, word: str, *values: object) -> None:
        """Tell the worker something; returns at once."""
        self._outgoing.put((word, *values))

    @property
    def is_behind(self) -> bool:
        """Whether so much waits to be told that the worker cannot keep up."""
        return self._outgoing.qsize() > MAX_OUTGOING

    async def receive(self) -> Message:
        """The next message of the worker; ``("gone",)`` when it has died."""
        if not self.is_alive and self.messages.empty():
            return ("gone",)
        message = await self.messages.get()
        if message[0] == "frame":
            self.num_frames_waiting -= 1
        return message

    async def wait_until_ready(self) -> None:
        """Raises :class:`ModaError` when the worker cannot be used."""
        try:
            word, *values = await asyncio.wait_for(self.receive(), READY_SECONDS)
        except TimeoutError:
            word, values = "failed", [f"a live worker was not ready in {READY_SECONDS:.0f} s"]
        if word != "ready":
            await self.stop()
            raise ModaError(values[0] if values else "a live worker died while it started")
        self.previews = values[0]

    async def reset(self) -> bool:
        """End the session; whether the worker is fit for the next one."""
        self.send("close")
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                while (message := await self.receive())[0] not in ("closed", "gone"):
                    pass
        except TimeoutError:
            return False
        return bool(message[0] == "closed")

    async def stop(self) -> None:
        """End the process, kindly and then not."""
        if self._is_stopped:
            return
        self._is_stopped, self.is_alive = True, False
        self._outgoing.put(None)
        ends: tuple[Callable[[], None], ...] = (
            lambda: None,
            self.process.terminate,
            self.process.kill,
        )
        for end in ends:
            end()
            await asyncio.to_thread(self.process.join, 3.0)
            if self.process.exitcode is not None:
                break
        with suppress(ValueError):  # not even killing has ended it
            self.process.close()

    def _read(self) -> None:
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                message = ("gone",)
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._arrived, message)
            if message[0] == "gone":
                return

    def _write(self) -> None:
        with suppress(OSError):
            while (message := self._outgoing.get()) is not None:
                self._connection.send(message)
        # The end of the pipe ends the worker; shutdown, because a thread is reading it.
        with suppress(OSError):
            self._connection.send(("quit",))

    def _arrived(self, message: Message) -> None:
        if message[0] == "gone":
            self.is_alive = False
            self._gone(self)
        if message[0] == "frame":
            if self.num_frames_waiting >= TOO_SLOW_FRAMES:
                message = ("too_slow",)
            else:
                if self.num_frames_waiting >= SOUND_ONLY_FRAMES:
                    message = ("frame", without_picture(message[1]))
                self.num_frames_waiting += 1
        self.messages.put_nowait(message)


class SessionPool:
    """Workers, free and taken, and the line of those who wait."""

    def __init__(self, settings: ServerSettings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self.uploads = PortraitUploads(settings)
        self._workers: set[LiveWorker] = set()
        self._free: deque[LiveWorker] = deque()
        self._line: deque[asyncio.Future[LiveWorker]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._owners: Counter[str] = Counter()
        """Sessions and places in the line by whose they are."""
        self._is_closed = False

    async def start(self) -> None:
        """Start all workers. Raises :class:`ModaError` if one cannot be used."""
        workers = [self._make_worker(number) for number in range(self._settings.max_sessions)]
        self._workers.update(workers)
        try:
            await asyncio.gather(*(worker.wait_until_ready() for worker in workers))
        except ModaError:
            await self.close()
            raise
        self._free.extend(workers)
        self._report()

    async def close(self) -> None:
        """End all workers."""
        self._is_closed = True
        for future in self._line:
            future.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(worker.stop() for worker in self._workers))
        self._workers.clear()
        self._free.clear()
        self.uploads.close()

    @property
    def portraits(self) -> list[str]:
        """Names of those who can be shown."""
        return list(self.previews)

    @property
    def previews(self) -> dict[str, bytes]:
        """Each of them waiting alive, as an animated WebP."""
        return next((worker.previews for worker in self._workers if worker.previews), {})

    @property
    def num_free(self) -> int:
        """Sessions that could begin now."""
        return len(self._free)

    @property
    def num_alive(self) -> int:
        """Workers that are there, busy or not."""
        return sum(worker.is_alive and bool(worker.previews) for worker in self._workers)

    def require_place(self, caller: Caller) -> None:
        """Raise unless a session is free or there is room to wait.

        Raises:
            QuotaError: The caller has all sessions that it may have.
            BusyError: There is no room.
        """
        most = caller.quotas.sessions
        if most is not None and self._owners[caller.owner] >= most:
            raise QuotaError(f"this key has {most} live sessions, its quota", RETRY_SECONDS)
        if not self._free and len(self._line) >= self._settings.max_waiting:
            raise self.refused()

    def refused(self) -> BusyError:
        """Count a client for whom there is no session; the error to raise."""
        self._metrics.refused.inc()
        return BusyError("all live sessions are taken; try again later", RETRY_SECONDS)

    @asynccontextmanager
    async def lease(self, caller: Caller) -> AsyncIterator[LiveWorker]:
        """A worker for as long as the context lasts.

        Raises as :meth:`require_place`, and :class:`BusyError` after the time that clients may
        wait.
        """
        self.require_place(caller)
        self._owners[caller.owner] += 1
        try:
            worker = await self._take()
            self._metrics.started.inc()
            self._report()
            try:
                yield worker
            finally:
                self._keep(self._give_back(worker))
        finally:
            self._owners[caller.owner] -= 1

    async def _take(self) -> LiveWorker:
        if self._free:
            return self._free.popleft()
        future: asyncio.Future[LiveWorker] = asyncio.get_running_loop().create_future()
        self._line.append(future)
        self._report()
        try:
            async with asyncio.timeout(self._settings.waiting_seconds):
                return await future
        except BaseException as error:
            if future.done() and not future.cancelled():  # found in the moment of giving up
                self._hand_on(future.result())
            if not isinstance(error, TimeoutError):
                raise
            raise self.refused() from None
        finally:
            with suppress(ValueError):
                self._line.remove(future)
            self._report()

    async def _give_back(self, worker: LiveWorker) -> None:
        fit = worker.is_alive and await worker.reset()
        if self._is_closed:
            return
        if not fit:
            self._metrics.failed_workers.inc()
            self._workers.discard(worker)
            await worker.stop()
            worker = await self._replace(worker.number)
        self._hand_on(worker)

    def _lost(self, worker: LiveWorker) -> None:
        """A worker has died: one that nobody has is replaced at once."""
        with suppress(ValueError):
            self._free.remove(worker)
            self._report()
            self._keep(self._give_back(worker))

    def _hand_on(self, worker: LiveWorker) -> None:
        """A worker is free: for the first in the line, or for whoever comes."""
        while self._line:
            future = self._line.popleft()
            if not future.done():
                future.set_result(worker)
                return
        self._free.append(worker)
        self._report()

    async def _replace(self, number: int) -> LiveWorker:
        while True:
            worker = self._make_worker(number)
            self._workers.add(worker)
            try:
                await worker.wait_until_ready()
            except ModaError:
                self._workers.discard(worker)
                await asyncio.sleep(RESTART_PAUSE_SECONDS)
                continue
            return worker

    def _make_worker(self, number: int) -> LiveWorker:
        return LiveWorker(self._settings, number, self.uploads.folder, self._lost)

    def _keep(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _report(self) -> None:
        self._metrics.active.set(len(self._workers) - len(self._free))
        self._metrics.waiting.set(len(self._line))
