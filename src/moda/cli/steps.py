"""What commands have in common: how far the work is, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from moda.pipeline import TalkingHead, VideoSummary, loading
from moda.rendering.mesh.first_use import compile_beside, was_compiled

FIRST_USE = "some seconds were for inner loops that are compiled once"


def load_head(*choice: Any) -> TalkingHead:
    """As :func:`moda.pipeline.loading.load_head`, with :func:`compile_early`."""
    head = loading.load_head(*choice)
    compile_early(head)
    return head


def compile_early(head: TalkingHead) -> None:
    """Begin with what the first video of an installation waits for."""
    if head.space.name == "mesh":
        compile_beside()


def tell(summary: VideoSummary, started: float) -> None:
    """Say in one line what came of a video, and what is known only now."""
    took = time.perf_counter() - started
    made = (
        f"{summary.num_frames} frames, {summary.seconds:.2f} s of video in {took:.1f} s "
        f"(real-time factor {took / summary.seconds:.2f}): {summary.path}"
    )
    compiled = (FIRST_USE,) if was_compiled() else ()
    typer.echo("; ".join((made, *compiled, *summary.notes)))


def warn(message: str) -> None:
    """Say something that does not stop the work."""
    typer.echo(f"moda: {message}", err=True)


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal, nothing elsewhere; yields what takes (done, total)."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
