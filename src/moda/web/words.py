"""What the page says: fixed texts, and the line that says how far a video is."""

from __future__ import annotations

import html
import math
import re
from pathlib import Path

from moda.options import OPTIONS, field_name
from moda.web.job import JobView
from moda.web.settings import WebSettings

TITLE = "MoDA"
RESPONSIBLE_USE = (
    "Animate a person only with that person's consent, and tell viewers that the video is "
    "synthetic. Every video says so in its metadata."
)
BUG = "Something went wrong inside the program; where it was started, the terminal says what."
NO_PLACE = "There is no space for files on the computer that serves this page; try again later."
BEGINNING = JobView("preparing", 0, 0, None, (), None, None)
WAITING = JobView("waiting", 0, 0, None, (), None, None)
"""Another visitor's video is being made."""


def introduction(settings: WebSettings) -> str:
    """Markdown at the top of the page."""
    where = (
        "Pictures and recordings are sent to the computer that serves this page, and nowhere else."
        if settings.is_public
        else "Everything stays on this computer."
    )
    return (
        f"# {TITLE}\n"
        "A portrait and speech become a talking video. "
        f"{where} Speech may last {spoken_seconds(settings.max_seconds)}, "
        f"a file may have {settings.max_upload_mib} MiB."
    )


def status(
    view: JobView | None,
    *,
    error: str | None = None,
    stopped: bool = False,
    notes: tuple[str, ...] = (),
) -> str:
    """HTML of the status line with its bar, and below it what the visitor should know besides."""
    said = "".join(f'<p class="moda-note">{html.escape(note)}</p>' for note in notes)
    return _line(view, error=error, stopped=stopped) + said


def _line(view: JobView | None, *, error: str | None, stopped: bool) -> str:
    if error is not None:
        return _box("failed", html.escape(error), None)
    if stopped or (view is not None and view.state == "stopped"):
        return _box("stopped", "Stopped; no file was kept.", None)
    if view is None:
        return _box("idle", "The video appears here, and plays while it is being made.", None)
    if view.state == "waiting":
        return _box(view.state, "Waiting for its turn…", 0.0)
    if view.state == "preparing" and view.frames_expected:
        share = min(1.0, view.frames_done / view.frames_expected)
        return _box(view.state, f"Following the face in the video: {round(100 * share)} %", share)
    if view.state == "preparing":
        return _box(view.state, "Looking at the portrait and the speech…", 0.0)
    if view.state == "rendering" and not view.frames_done:
        return _box(view.state, "Listening to the speech…", 0.0)
    share = view.frames_done / view.frames_expected if view.frames_expected else 0.0
    if view.state == "done" and view.summary is not None:
        seconds, wall = view.summary.seconds, view.summary.wall_seconds
        return _box(view.state, f"Done: {seconds:.1f} s of video made in {wall:.1f} s.", 1.0)
    left = view.seconds_left
    remaining = "" if left is None else f", {spoken_seconds(max(1, math.ceil(left)))} left"
    frames = f"{view.frames_done} of {view.frames_expected} frames"
    return _box(view.state, f"{frames}{remaining}", share)


def for_readers(message: str, *paths: Path) -> str:
    """A message as a sentence, without the folders of uploaded files; their names stay.

    Options are called as on the page, not as on the command line.
    """
    message = re.sub(r"(?<![\w-])--([a-z-]+)", lambda flag: f"'{_label(flag[1])}'", message)
    for path in paths:
        message = message.replace(str(path), path.name)
    line = " ".join(part.strip() for part in message.splitlines())
    if any(path.name and line.startswith(path.name) for path in paths):
        return line
    return line[:1].upper() + line[1:]


def _label(flag: str) -> str:
    known = OPTIONS.get(field_name(flag))
    label = flag.replace("-", " ") if known is None else known.label
    return label[:1].upper() + label[1:]


def spoken_seconds(seconds: float) -> str:
    """``90`` as ``1 min 30 s``."""
    minutes, rest = divmod(round(seconds), 60)
    parts = [f"{minutes} min"] if minutes else []
    parts += [f"{rest} s"] if rest or not minutes else []
    return " ".join(parts)


def _box(state: str, text: str, share: float | None) -> str:
    role = "alert" if state == "failed" else "status"
    percent = None if share is None else round(100 * share)
    bar = (
        ""
        if percent is None
        else f'<div class="moda-bar" role="progressbar" aria-label="Progress" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{percent}"><div style="width: {percent}%"></div></div>'
    )
    return f'<div class="moda-status moda-{state}" role="{role}"><p>{text}</p>{bar}</div>'
