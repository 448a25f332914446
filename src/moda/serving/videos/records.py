"""What is known of videos on request, in a database: it outlives the server where that is wanted.

A video's files lie in a folder of its own beside the database. Rows are written when something
changes that a restart must not forget; how far a video is, is not one of these things.
"""

from __future__ import annotations

import errno
import json
import logging
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from moda.errors import InputError
from moda.pipeline.jobs import VideoJob
from moda.serving.videos.worker import PORTRAIT_NAME, SPEECH_NAME

logger = logging.getLogger("uvicorn.error")
JobState = Literal["queued", "running", "done", "failed"]
HookState = Literal["pending", "delivered", "failed"]
DATABASE_NAME = "videos.sqlite3"
FORMAT = 1
DAY_SECONDS = 86_400
COLUMNS = (
    "identifier", "owner", "folder", "form", "state", "error", "seconds", "created", "ended",
    "attempts", "repeat_key", "digest", "webhook", "hook_state", "notes",
)  # fmt: skip


@dataclass
class Job:
    """One video."""

    identifier: str
    folder: Path
    form: dict[str, Any]
    """What the client asked for, besides files."""
    request: VideoJob | None
    """None for one that is over and was found by a restart."""
    owner: str = ""
    state: JobState = "queued"
    progress: float = 0.0
    error: str | None = None
    seconds: float | None = None
    """Length of the video, when it is done."""
    created: float = field(default_factory=time.time)
    began: float = 0.0
    ended: float | None = None
    attempts: int = 0
    repeat_key: str | None = None
    """The client's ``Idempotency-Key``."""
    digest: str = ""
    """Of all that the client sent."""
    webhook: str | None = None
    hook_state: HookState | None = None
    notes: list[str] = field(default_factory=list)
    """What its client should know though it stops nothing."""

    @property
    def is_over(self) -> bool:
        """Whether nothing is going to change."""
        return self.state in ("done", "failed")

    def remove_files(self) -> None:
        """Uploads and result."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def remove_uploads(self) -> None:
        """What is not needed once the video is there."""
        with suppress(OSError):
            for name in (PORTRAIT_NAME, SPEECH_NAME):
                (self.folder / name).unlink(missing_ok=True)


class Records:
    """The database, and what each owner has used of the day. Used in one thread.

    Args:
        folder: Where it lies; None keeps it in memory.

    Raises:
        InputError: Another server uses it, or it cannot be used.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                (folder / DATABASE_NAME).touch(0o600)
            name = ":memory:" if folder is None else str(folder / DATABASE_NAME)
            self._database = sqlite3.connect(name, timeout=0.0, isolation_level=None)
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            (version,) = self._database.execute("PRAGMA user_version").fetchone()
            if version not in (0, FORMAT):
                raise InputError(f"{name} is of another version of MoDA; choose another folder")
            columns = ", ".join(COLUMNS)
            self._database.execute(
                f"CREATE TABLE IF NOT EXISTS videos ({columns}, PRIMARY KEY (identifier))"
            )
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS used (owner, day, seconds, PRIMARY KEY (owner, day))"
            )
            self._database.execute(f"PRAGMA user_version = {FORMAT}")
        except (sqlite3.Error, OSError) as error:
            raise InputError(
                f"jobs folder {folder} cannot be used ({error}); it may belong to a server that "
                "runs; choose another"
            ) from None

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def load(self) -> Iterator[Job]:
        """All videos that have their folders, in the order in which they were asked for."""
        rows = self._database.execute(
            f"SELECT {', '.join(COLUMNS)} FROM videos ORDER BY created"  # noqa: S608
        ).fetchall()
        for row in rows:
            values = dict(zip(COLUMNS, row, strict=True))
            assert self._folder is not None
            folder = self._folder / values.pop("folder")
            form, notes = json.loads(values.pop("form")), json.loads(values.pop("notes"))
            job = Job(folder=folder, form=form, notes=notes, request=None, **values)
            job.progress = float(job.state == "done")
            if folder.is_dir():
                yield job
            else:
                self.remove(job)

    def save(self, job: Job) -> None:
        """Remember a video as it is now. Raises :class:`OSError`."""
        texts = {"form": json.dumps(job.form), "notes": json.dumps(job.notes)}
        values = {**vars(job), **texts, "folder": job.folder.name}
        marks = ", ".join("?" * len(COLUMNS))
        self._write(
            f"INSERT OR REPLACE INTO videos VALUES ({marks})",  # noqa: S608
            *(values[name] for name in COLUMNS),
        )

    def update(self, job: Job) -> None:
        """As :meth:`save`, where the work goes on even if the disk is full."""
        with _logged():
            self.save(job)

    def remove(self, job: Job) -> None:
        """Forget a video."""
        with _logged():
            self._write("DELETE FROM videos WHERE identifier = ?", job.identifier)

    def use(self, owner: str, seconds: float) -> None:
        """Count a finished video to today."""
        with _logged():
            self._write("DELETE FROM used WHERE day < ?", _today())
            self._write(
                "INSERT INTO used VALUES (?, ?, ?) ON CONFLICT (owner, day) "
                "DO UPDATE SET seconds = seconds + excluded.seconds",
                *(owner, _today(), seconds),
            )

    def used_today(self, owner: str) -> float:
        """Seconds of video that an owner got today."""
        row = self._database.execute(
            "SELECT seconds FROM used WHERE owner = ? AND day = ?", (owner, _today())
        ).fetchone()
        return float(row[0]) if row else 0.0

    def _write(self, statement: str, *values: object) -> None:
        try:
            self._database.execute(statement, values)
        except sqlite3.Error as error:
            raise OSError(errno.EIO, str(error)) from error


def seconds_to_tomorrow() -> int:
    """Until the next day begins in UTC."""
    return DAY_SECONDS - int(time.time()) % DAY_SECONDS


@contextmanager
def _logged() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        logger.error("the database of videos cannot be written: %s", error)


def _today() -> int:
    return int(time.time()) // DAY_SECONDS
