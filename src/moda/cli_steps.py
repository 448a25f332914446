"""Steps that commands have in common: checking names, loading a model, writing with progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from moda.errors import InputError

if TYPE_CHECKING:
    from moda.pipeline import TalkingHead, VideoSummary


def check_early(output: Path, *inputs: Path, transparent: bool = False) -> None:
    """Find wrong file names before models are loaded.

    Raises:
        InputError, OutputError: The output cannot be written.
        MediaError: An input is not there.
    """
    from moda.media import check_output_path

    path = check_output_path(output, transparent=transparent)
    for source in inputs:
        if path.exists() and source.exists() and path.samefile(source):
            raise InputError(f"output {output} is also an input; choose another name")


def load_head(
    model: str | None,
    renderer: str | None,
    device: str,
    precision: str = "float32",
    compat: str | None = None,
) -> TalkingHead:
    """Load a model, see :func:`moda.loading.load_head`."""
    from moda import loading

    return loading.load_head(model, renderer, device, precision, compat)


def tell(summary: VideoSummary, started: float) -> None:
    """Say in one line what came of a video."""
    took = time.perf_counter() - started
    typer.echo(
        f"{summary.num_frames} frames, {summary.seconds:.2f} s of video in {took:.1f} s "
        f"(real-time factor {took / summary.seconds:.2f}): {summary.path}"
    )


def warn(message: str) -> None:
    """Say something that does not stop the work."""
    typer.echo(f"moda: {message}", err=True)


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal, nothing elsewhere; yields what takes (done, total)."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
