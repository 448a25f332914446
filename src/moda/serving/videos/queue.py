"""Videos that are made on request: a queue with a limit, one process that makes them, and results.

Uploads and results live in a private folder under names of the server's own; nothing that a client
sends becomes part of a path. A job's files go when it is deleted, when its time is over, when newer
ones of its owner need the room, and when the server ends, unless it was given a folder to keep them
in: then the next server goes on with what was not done.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import multiprocessing
import shutil
import tempfile
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from moda.doors.clients import Presence
from moda.errors import InputError, OutputError
from moda.files import ScratchFolder
from moda.pipeline.jobs import VideoJob
from moda.serving.access import (
    ANYBODY,
    BusyError,
    Caller,
    ConflictError,
    QuotaError,
    owner_of,
    read_key,
)
from moda.serving.metrics import Metrics
from moda.serving.settings import ServerSettings
from moda.serving.videos.forms import make_request
from moda.serving.videos.records import Job, Records, seconds_to_tomorrow
from moda.serving.videos.status import webhook_message
from moda.serving.videos.webhooks import deliver
from moda.serving.videos.worker import run_video_worker

logger = logging.getLogger("uvicorn.error")

RETRY_SECONDS = 30
COPIES = 2
"""Of what arrives: a form's files lie in a file without a name before they get one."""
MAX_ATTEMPTS = 3
"""A video with which the server ends so often is not begun again."""
FOLDER_PREFIX = "video-"
INTERNAL_ERROR = "an internal error; the server's log has it"


class KeptFolder:
    """A folder of the operator's in which videos survive the server; as :class:`ScratchFolder`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def restore(self) -> Path:
        """The folder, made anew if somebody has removed it. Raises :class:`OSError`."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self.path

    def close(self) -> None:
        """All stays."""


class VideoJobs:
    """All jobs of a server. Used in its event loop only."""

    def __init__(self, settings: ServerSettings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._queue: deque[Job] = deque()
        self._running: Job | None = None
        folder = settings.jobs_folder
        self._records = Records(folder)
        self._scratch = ScratchFolder("videos") if folder is None else KeptFolder(folder)
        self._arriving = Presence(max(1, settings.max_jobs // 2))
        """Requests whose files are still on their way; each has a place in the queue."""
        self.speaking = ThreadPoolExecutor(1, "moda-speaking")
        """Where texts are spoken: one at a time, so that they do not keep others waiting."""
        self._wake = asyncio.Event()
        self._maker: VideoMaker | None = None
        self._begun_repeats: set[tuple[str, str]] = set()
        self._secrets = {owner_of(key): key for key, _ in map(read_key, settings.api_keys)}
        self._calls: set[asyncio.Task[None]] = set()
        self.is_ending = False
        """Whoever watches a video should leave."""
        if folder is not None:
            self._go_on(folder)
        self._task = asyncio.get_running_loop().create_task(self._work())

    def _go_on(self, folder: Path) -> None:
        """Take up what an earlier server has left."""
        for job in self._records.load():
            self._jobs[job.identifier] = job
            if not job.is_over:
                try:
                    if job.attempts >= MAX_ATTEMPTS:
                        raise InputError(f"the server stopped {MAX_ATTEMPTS} times in the making")
                    longest = self._settings.max_speech_seconds
                    job.request = make_request(job.folder, job.form, longest)
                    job.state = "queued"
                    self._queue.append(job)
                except InputError as error:
                    job.state, job.error, job.ended = "failed", str(error), time.time()
                self._records.update(job)
            if job.is_over and job.hook_state == "pending":
                self._call(job)
        known = {job.folder.name for job in self._jobs.values()}
        for path in folder.glob(f"{FOLDER_PREFIX}*"):
            if path.name not in known:  # its request was never answered
                shutil.rmtree(path, ignore_errors=True)

    async def close(self) -> None:
        """Stop the work and remove all files that are not kept."""
        self.is_ending = True
        for task in (self._task, *self._calls):
            task.cancel()
        await asyncio.gather(self._task, *self._calls, return_exceptions=True)
        if self._maker is not None:
            await self._maker.stop()
        self.speaking.shutdown(wait=False, cancel_futures=True)
        self._records.close()
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

    def require_quota(self, caller: Caller) -> None:
        """Raise :class:`QuotaError` unless the caller may ask for one more video."""
        quotas = caller.quotas
        num_open = sum(job.owner == caller.owner and not job.is_over for job in self._jobs.values())
        if quotas.videos is not None and num_open >= quotas.videos:
            raise QuotaError(
                f"{num_open} videos of this key are being made or wait, its quota", RETRY_SECONDS
            )
        if quotas.minutes is None:
            return
        if self._records.used_today(caller.owner) >= quotas.minutes * 60.0:
            raise QuotaError(
                f"this key has had its {quotas.minutes} minutes of video for today",
                seconds_to_tomorrow(),
            )

    @contextmanager
    def arriving(
        self, client: str, caller: Caller = ANYBODY, repeat_key: str | None = None
    ) -> Iterator[None]:
        """Keep a place in the queue while a request's files arrive; a repeated one needs none.

        Raises:
            QuotaError: The caller has no more videos.
            BusyError: There is no place, or the client's other requests have half of them.
            OSError: There is no folder or not enough space for the files.
        """
        if self.repeated(caller.owner, repeat_key) is None:
            self.require_quota(caller)
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
        return Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=self._scratch.restore()))

    def add(self, job: Job, caller: Caller = ANYBODY) -> None:
        """Put a job in the queue.

        Raises:
            BusyError, QuotaError: There is no room, or the caller has no more videos.
            OSError: It cannot be kept.
        """
        self.require_room()
        self.require_quota(caller)
        job.owner = caller.owner
        self._records.save(job)
        self._jobs[job.identifier] = job
        self._queue.append(job)
        self._forget_old()
        self._wake.set()
        self._metrics.open_jobs.set(self.num_open)

    @contextmanager
    def claimed(self, owner: str, repeat_key: str | None) -> Iterator[None]:
        """Hold an ``Idempotency-Key`` while its request is read.

        Raises:
            ConflictError: Another request with it is still being read.
        """
        if repeat_key is None:
            yield
            return
        claim = owner, repeat_key
        if claim in self._begun_repeats:
            raise ConflictError("a request with this Idempotency-Key is being read; wait for it")
        self._begun_repeats.add(claim)
        try:
            yield
        finally:
            self._begun_repeats.discard(claim)

    def repeated(self, owner: str, repeat_key: str | None) -> Job | None:
        """The job that was asked for with an ``Idempotency-Key``."""
        if repeat_key is None:
            return None
        return next((job for job in self.of(owner) if job.repeat_key == repeat_key), None)

    def of(self, owner: str) -> list[Job]:
        """All jobs of an owner, the newest first."""
        self._forget_old()
        return [job for job in reversed(self._jobs.values()) if job.owner == owner]

    def get(self, identifier: str, owner: str = "") -> Job | None:
        """A job of an owner by its identifier."""
        self._forget_old()
        job = self._jobs.get(identifier)
        return job if job is not None and job.owner == owner else None

    def place(self, job: Job) -> int:
        """Jobs that come before it; 0 unless it waits."""
        return self._queue.index(job) + (self._running is not None) if job in self._queue else 0

    async def delete(self, job: Job) -> None:
        """Stop a job, if it is not over, and remove all of it."""
        self._jobs.pop(job.identifier, None)
        self._records.remove(job)
        with suppress(ValueError):
            self._queue.remove(job)
        if not job.is_over:
            job.state, job.error = "failed", "deleted"
        if job is self._running and self._maker is not None:
            await self._maker.stop()
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
            job.state, job.began, job.attempts = "running", time.time(), job.attempts + 1
            self._records.update(job)
            try:
                await self._make(job)
            except (OSError, OutputError):  # no process or folder; the next job may find one
                logger.exception("a video could not be made")
                job.state, job.error = "failed", INTERNAL_ERROR
            except asyncio.CancelledError:  # the server ends, which is no fault of the job
                job.attempts -= 1
                self._records.update(job)
                raise
            finally:
                self._running = None
            self._finish(job)

    async def _make(self, job: Job) -> None:
        if self._maker is None or not self._maker.is_alive:
            kept = self._settings.jobs_folder is not None
            self._maker = VideoMaker(self._settings, None if kept else self._scratch.path)
        maker = self._maker
        assert job.request is not None
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

    def _finish(self, job: Job) -> None:
        """A video is done, or has failed, or was deleted meanwhile."""
        job.ended = time.time()
        if job.identifier in self._jobs:
            job.remove_uploads()
            self._records.update(job)
            if job.webhook is not None:
                self._call(job)
        else:
            job.remove_files()
        if job.seconds is not None:
            self._records.use(job.owner, job.seconds)
        self._metrics.jobs.labels(job.state).inc()
        self._metrics.job_seconds.observe(job.ended - job.began)
        self._metrics.open_jobs.set(self.num_open)

    def _call(self, job: Job) -> None:
        """Tell the webhook of a job, in a task of its own."""

        async def call() -> None:
            secret = self._secrets.get(job.owner)
            is_taken = (
                secret is not None
                and job.webhook is not None
                and await deliver(job.webhook, job.identifier, webhook_message(job), secret)
            )
            job.hook_state = "delivered" if is_taken else "failed"
            if job.identifier in self._jobs:
                self._records.update(job)

        task = asyncio.get_running_loop().create_task(call())
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    def _forget_old(self) -> None:
        """Remove what is over for too long, and the oldest of an owner with too many."""
        now, settings = time.time(), self._settings
        counts = Counter(job.owner for job in self._jobs.values())
        for job in list(self._jobs.values()):
            if job.ended is None:
                continue
            is_surplus = counts[job.owner] > settings.kept_jobs
            if is_surplus or now - job.ended > settings.kept_seconds:
                counts[job.owner] -= 1
                del self._jobs[job.identifier]
                self._records.remove(job)
                job.remove_files()


class VideoMaker:
    """The server's end of the process that makes videos, with a folder for its temporary files.

    Raises:
        OSError, OutputError: There is no process, or no room for temporary files.
    """

    def __init__(self, settings: ServerSettings, folder: Path | None) -> None:
        self._temporary = ScratchFolder("making")
        self._is_stopped = False
        context = multiprocessing.get_context("spawn")
        self._connection: Connection
        self._connection, theirs = context.Pipe()
        self._process: SpawnProcess = context.Process(
            target=run_video_worker,
            args=(
                theirs,
                settings.model,
                settings.device,
                settings.max_sessions,
                self._temporary.path,
                folder,
            ),
            name="moda-video-worker",
            daemon=True,
        )
        self._process.start()
        theirs.close()

    @property
    def is_alive(self) -> bool:
        """Whether the process can be given work; one that was killed may take a moment to end."""
        return not self._is_stopped and self._process.is_alive()

    def send(self, request: VideoJob) -> None:
        """Ask for a video."""
        with suppress(OSError):  # a worker that has died is noticed by receive
            self._connection.send(request)

    async def receive(self) -> tuple[Any, ...]:
        """The next message; ``("gone",)`` when the process has died."""
        return await asyncio.to_thread(self._receive)

    async def stop(self) -> None:
        """End the process, whatever it does, and remove what it leaves."""
        self._is_stopped = True
        self._process.kill()
        await asyncio.to_thread(self._process.join, 5.0)
        self._temporary.close()

    def _receive(self) -> tuple[Any, ...]:
        try:
            message: tuple[Any, ...] = self._connection.recv()
        except (EOFError, OSError):
            return ("gone",)
        return message
