"""Making a video of this package's own model, in a process of its own, and what that costs."""

from __future__ import annotations

import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from moda.pipeline import TalkingHead, TalkingVideo
from moda.structures import FRAMES_PER_SECOND, EmotionAt, Style

STATUS = Path("/proc/self/status")


class Task(NamedTuple):
    """A video to make."""

    model: str
    """built-in name, or a file"""
    portrait: Path
    speech: Path
    output: Path
    size_px: int
    seed: int
    emotion: str = ""


class Cost(NamedTuple):
    """What it took, with the model loaded and everything compiled."""

    seconds: float
    """of video"""
    wall_seconds: float
    first_frame_seconds: float
    peak_memory_mb: float | None
    """of the process; None where the system does not tell"""

    @property
    def real_time_factor(self) -> float:
        return self.wall_seconds / self.seconds


def make_video(task: Task) -> Cost:
    """Make a video in this process; the peak memory is then that of everything it ever did."""
    head = TalkingHead.from_pretrained(task.model)
    style = Style((EmotionAt(0.0, task.emotion),)) if task.emotion else Style()

    def video() -> TalkingVideo:
        return head.generate(
            task.portrait, task.speech, style=style, seed=task.seed, size=task.size_px
        )

    next(video().frames())  # compiles what a first run compiles
    started = time.perf_counter()
    first: list[float] = []

    def progress(done: int, expected: int) -> None:
        if not first:
            first.append(time.perf_counter() - started)

    summary = video().write(task.output, progress=progress)
    wall = time.perf_counter() - started
    return Cost(summary.num_frames / FRAMES_PER_SECOND, wall, first[0], peak_memory_mb())


def make_video_apart(task: Task) -> Cost:
    """The same in a fresh process, so that the peak memory is its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(make_video, task).result()


def peak_memory_mb() -> float | None:
    """Largest resident memory of this process in megabytes (10^6 bytes), None if unknown.

    Linux keeps it for the program itself; ``getrusage`` also remembers what the parent process had
    when it started this one.
    """
    if STATUS.exists():
        for line in STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return None
