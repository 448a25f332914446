"""Videos that are made on request: a queue with a limit, one process that makes them, and results.

Uploads and results live in a private folder under names of the server's own; nothing that a client
sends becomes part of a path. A job's files go when it is deleted, when its time is over, when newer
ones need the room, and when the server ends.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import multiprocessing
import secrets
import shutil
import tempfile
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Literal

from moda.doors.clients import Presence
from moda.files import ScratchFolder, remove_leftovers
from moda.pipeline.jobs import VideoJob, notes_on_style
from moda.serving.access import BusyError
from moda.serving.metrics import Metrics
from moda.serving.settings import ServerSettings
from moda.serving.videos.worker import PORTRAIT_NAME, SPEECH_NAME, run_video_worker

logger = logging.getLogger("uvicorn.error")

RETRY_SECONDS = 30
COPIES = 2
"""Of what arrives: a form's files lie in a file without a name before they get one."""
JobState = Literal["queued", "running", "done", "failed"]


@dataclass
class Job:
    """One video."""

    identifier: str
    folder: Path
    request: VideoJob
    state: JobState = "queued"
    progress: float = 0.0
    error: str | None = None
    notes: list[str] = field(default_factory=list)
    """What its client should know though it stops nothing."""
    seconds: float | None = None
    """Length of the video, when it is done."""
    created: float = field(default_factory=time.time)
    began: float = 0.0
    ended: float | None = None

    def remove_files(self) -> None:
        """Uploads and result."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def remove_uploads(self) -> None:
        """What is not needed once the video is there."""
        with suppress(OSError):
            for name in (PORTRAIT_NAME, SPEECH_NAME):
                (self.folder / name).unlink(missing_ok=True)


class VideoJobs:
    """All jobs of a server. Used in its event loop only."""

    def __init__(self, settings: ServerSettings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._queue: deque[Job] = deque()
        self._running: Job | None = None
        self._scratch = ScratchFolder("videos")
        self._arriving = Presence(max(1, settings.max_jobs // 2))
        """Requests whose files are still on their way; each has a place in the queue."""
        self.speaking = ThreadPoolExecutor(1, "moda-speaking")
        """Where texts are spoken: one at a time, so that they do not keep others waiting."""
        self._wake = asyncio.Event()
        self._maker: VideoMaker | None = None
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def close(self) -> None:
        """Stop the work and remove all files."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        if self._maker is not None:
            await self._maker.stop()
        self.speaking.shutdown(wait=False, cancel_futures=True)
        self._scratch.close()

    @property
    def num_open(self) -> int:
        """Videos that are made or wait."""
        return len(self._queue) + (self._running is not None)

    def require_room(self, others: int = 0) -> None:
        """Raise :class:`BusyError` unless one more may wait besides ``others``."""
        if self.num_open + others >= self._settings.max_jobs:
            raise BusyError(
                f"{self.num_open + others} videos are being made or wait, the limit; try again "
                "later",
                RETRY_SECONDS,
            )

    @contextmanager
    def arriving(self, client: str) -> Iterator[None]:
        """Keep a place in the queue while a request's files arrive.

        Raises:
            BusyError: There is none, or the client's other requests have half of them.
            OSError: There is no folder or not enough space for the files.
        """
        self.require_room(self._arriving.total)
        if self._arriving.is_full(client):
            raise BusyError("other files of yours are still arriving; wait for them", RETRY_SECONDS)
        self.require_space()
        with self._arriving.counted(client):
            yield

    def require_space(self) -> None:
        """Raise :class:`OSError` unless there is a folder with space for all that may arrive."""
        folder = self._scratch.restore()
        needed = (self._arriving.total + 1) * COPIES * self._settings.max_upload_bytes
        if shutil.disk_usage(folder).free < needed:
            raise OSError(errno.ENOSPC, "less space is free than one request may need")

    def problems(self) -> list[str]:
        """Why no video could be asked for at this moment."""
        found = []
        if self._task.done():
            found.append("the queue has stopped")
        if self._settings.max_jobs and self.num_open >= self._settings.max_jobs:
            found.append("the queue is full")
        try:
            self.require_space()
        except OSError as error:
            found.append(f"files cannot be kept: {error.strerror}")
        return found

    def new_folder(self) -> Path:
        """A private folder for the uploads of one job. Raises :class:`OSError`."""
        return Path(tempfile.mkdtemp(dir=self._scratch.restore()))

    def add(self, folder: Path, request: VideoJob) -> Job:
        """Put a job in the queue; its folder belongs to it. Raises :class:`BusyError`."""
        self.require_room()
        job = Job(secrets.token_urlsafe(16), folder, request)
        job.notes += notes_on_style(request.options)
        self._jobs[job.identifier] = job
        self._queue.append(job)
        self._forget_old()
        self._wake.set()
        self._metrics.open_jobs.set(self.num_open)
        return job

    def get(self, identifier: str) -> Job | None:
        """A job by its identifier."""
        self._forget_old()
        return self._jobs.get(identifier)

    def place(self, job: Job) -> int:
        """Jobs that come before it; 0 unless it waits."""
        return self._queue.index(job) + (self._running is not None) if job in self._queue else 0

    async def delete(self, job: Job) -> None:
        """Stop a job, if it is not over, and remove all of it."""
        self._jobs.pop(job.identifier, None)
        with suppress(ValueError):
            self._queue.remove(job)
        if job is self._running and self._maker is not None:
            job.state, job.error = "failed", "deleted"
            await self._maker.stop()
            await asyncio.to_thread(remove_leftovers)
        job.remove_files()
        self._metrics.open_jobs.set(self.num_open)

    async def _work(self) -> None:
        while True:
            while not self._queue:
                self._wake.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(30.0):  # wait_for of 3.11 may lose a cancellation
                        await self._wake.wait()
                self._forget_old()
            job = self._running = self._queue.popleft()
            job.state, job.began = "running", time.time()
            try:
                await self._make(job)
            except OSError:  # no process can be started; the next job may find one
                logger.exception("a video could not be made")
                job.state, job.error = "failed", "an internal error; the server's log has it"
            finally:
                job.ended = time.time()
                job.remove_uploads()
                self._running = None
                self._metrics.jobs.labels(job.state).inc()
                self._metrics.job_seconds.observe(job.ended - job.began)
                self._metrics.open_jobs.set(self.num_open)

    async def _make(self, job: Job) -> None:
        if self._maker is None or not self._maker.is_alive:
            self._maker = VideoMaker(self._settings, self._scratch.path)
        maker = self._maker
        maker.send(job.request)
        while job.state == "running":
            word, *values = await maker.receive()
            if job.state != "running":
                break  # deleted meanwhile
            if word == "progress":
                job.progress = values[0]
            elif word == "note":
                job.notes += [note for note in values if note not in job.notes]
            elif word == "done":
                job.state, job.progress, job.seconds = "done", 1.0, values[0]
            elif word == "failed":
                job.state, job.error = "failed", values[0]
            elif word == "gone":
                job.state, job.error = "failed", "the process that made the video died"
                await maker.stop()
        if job.identifier not in self._jobs:
            job.remove_files()

    def _forget_old(self) -> None:
        """Remove what is over for too long, and the oldest of too many."""
        now, settings = time.time(), self._settings
        over = [job for job in self._jobs.values() if job.ended is not None]
        surplus = len(self._jobs) - settings.kept_jobs
        for index, job in enumerate(over):
            assert job.ended is not None
            if index < surplus or now - job.ended > settings.kept_seconds:
                self._jobs.pop(job.identifier, None)
                job.remove_files()


class VideoMaker:
    """The server's end of the process that makes videos."""

    def __init__(self, settings: ServerSettings, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection: Connection
        self._connection, theirs = context.Pipe()
        self._process: SpawnProcess = context.Process(
            target=run_video_worker,
            args=(theirs, settings.model, settings.device, settings.max_sessions, folder),
            name="moda-video-worker",
            daemon=True,
        )
        self._process.start()
        theirs.close()

    @property
    def is_alive(self) -> bool:
        """Whether there is a process."""
        return self._process.is_alive()

    def send(self, request: VideoJob) -> None:
        """Ask for a video."""
        with suppress(OSError):  # a worker that has died is noticed by receive
            self._connection.send(request)

    async def receive(self) -> tuple[Any, ...]:
        """The next message; ``("gone",)`` when the process has died."""
        return await asyncio.to_thread(self._receive)

    async def stop(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        await asyncio.to_thread(self._process.join, 5.0)

    def _receive(self) -> tuple[Any, ...]:
        try:
            message: tuple[Any, ...] = self._connection.recv()
        except (EOFError, OSError):
            return ("gone",)
        return message
