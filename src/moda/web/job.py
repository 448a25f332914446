"""One video in the making: worked on in a thread, watched and stopped from outside."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Literal, NamedTuple

from moda.errors import InputError
from moda.media.segments import Segment, read_segments
from moda.pipeline import Progress, TalkingVideo, VideoSummary
from moda.threads import BackgroundThread

State = Literal["waiting", "preparing", "rendering", "done", "stopped", "failed"]

RATE_MEMORY_SECONDS = 5.0
"""How far back the speed is measured that the time left is estimated from."""


class _StoppedError(Exception):
    """Raised in the job's thread to end it."""


class JobView(NamedTuple):
    """What a job looks like at one moment."""

    state: State
    frames_done: int
    frames_expected: int
    """0 as long as nobody knows."""
    seconds_left: float | None
    """Estimated; None where there is nothing to estimate from."""
    segments: tuple[Segment, ...]
    """Pieces that became whole since the last look."""
    summary: VideoSummary | None
    error: BaseException | None
    notes: tuple[str, ...] = ()
    """What the visitor should know though it stops nothing."""

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "stopped", "failed")


class Job:
    """Makes one video in a folder of its own, which :meth:`close` removes.

    Args:
        make: Begins the video in a folder it may use; called in the job's thread, as it takes a
            moment. What it is given besides takes how far it is, and ends it if the job is stopped.
        parent: Folder in which the job's folder is made.
        max_seconds: Longest video.
        subtitles: Whether words are written into the file, and beside it.
    """

    def __init__(
        self,
        make: Callable[[Path, Progress], TalkingVideo],
        *,
        parent: Path,
        max_seconds: float,
        subtitles: bool = False,
    ) -> None:
        parent.mkdir(parents=True, exist_ok=True)
        self.folder = Path(mkdtemp(prefix="job-", dir=parent))
        self.path = self.folder / "talking-head.mp4"
        self._make = make
        self._max_seconds = max_seconds
        self._subtitles = subtitles
        self._segments = self.folder / "segments"
        self._segments.mkdir()
        self._num_seen = 0
        self._state: State = "preparing"
        self._progress: list[tuple[float, int]] = []
        self._expected = 0
        self._summary: VideoSummary | None = None
        self._error: BaseException | None = None
        self._notes: tuple[str, ...] = ()
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._thread = BackgroundThread(self._run, "moda-web-job", self.stop)

    def start(self) -> None:
        """Begin the work."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the work to end at the next frame; returns at once."""
        self._stopping.set()

    def close(self) -> None:
        """Stop, wait for the end, and remove every file of the job."""
        self.stop()
        if self._thread.ident is not None:
            self._thread.join()
        shutil.rmtree(self.folder, ignore_errors=True)

    def look(self, timeout_seconds: float) -> JobView:
        """Wait a little, at most to the end of the work, then say how far it is."""
        ended = self._ended.wait(timeout_seconds)
        segments = tuple(read_segments(self._segments, self._num_seen))
        self._num_seen += len(segments)
        done = self._progress[-1][1] if self._progress else 0
        state: State = self._state if ended or self._state == "preparing" else "rendering"
        return JobView(
            state, done, self._expected, self._seconds_left(), segments, self._summary,
            self._error, self._notes,
        )  # fmt: skip

    def _seconds_left(self) -> float | None:
        if len(self._progress) < 2:
            return None
        now, done = self._progress[-1]
        then, before = next(mark for mark in self._progress if mark[0] > now - RATE_MEMORY_SECONDS)
        if done == before:
            return None
        return (self._expected - done) * (now - then) / (done - before)

    def _run(self) -> None:
        """Body of the job's thread."""
        try:
            video = self._make(self.folder, self._follow)
            self._notes = video.notes
            self._check(video.num_frames / video.frames_per_second)
            self._expected, self._progress = video.num_frames, []
            self._state = "rendering"
            self._summary = video.write(
                self.path,
                progress=lambda done, total: self._report(done, total, video.frames_per_second),
                segments=self._segments,
                subtitles=self._subtitles,
            )
            self._notes += self._summary.notes
            self._state = "done"
        except _StoppedError:
            self._state = "stopped"
        except BaseException as error:  # shown by whoever looks
            self._error, self._state = error, "failed"
        finally:
            self._ended.set()

    def _follow(self, done: int, total: int) -> None:
        """A driving video is looked at."""
        self._expected = total
        self._progress = [(time.monotonic(), done)]
        self._check(0.0)

    def _report(self, done: int, total: int, frames_per_second: float) -> None:
        self._expected = total
        self._progress = [*self._progress[-250:], (time.monotonic(), done)]
        self._check(done / frames_per_second)

    def _check(self, seconds: float) -> None:
        if self._stopping.is_set():
            raise _StoppedError
        if seconds > self._max_seconds:
            raise InputError(
                f"the speech lasts more than {self._max_seconds:g} s, the limit of this page; "
                "cut it into parts"
            )
