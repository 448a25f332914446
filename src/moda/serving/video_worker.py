"""A process that makes one video after the other for :mod:`moda.serving.jobs`.

It reads its work from a pipe and tells how far it is. When the pipe ends, whatever it was doing,
the process ends and takes the folder of all uploads and results with it.
"""

from __future__ import annotations

import os
import queue
import shutil
import signal
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from moda.errors import ModaError

if TYPE_CHECKING:
    from moda.pipeline import TalkingHead
    from moda.speech_synthesis import SpokenText
    from moda.system import Gaze

NICENESS = 5
"""Live sessions come first."""
PROGRESS_SECONDS = 0.25


@dataclass(frozen=True)
class VideoRequest:
    """What a client wants, checked. Files have names of the server's own."""

    portrait: Path
    speech: Path
    output: Path
    emotion: str | None = None
    intensity: float = 1.0
    seed: int | None = None
    size: int | None = None
    full_frame: bool = True
    head_motion: float = 1.0
    expression: float = 1.0
    blink: bool = True
    blink_rate: float | None = None
    gaze: Gaze | None = None
    lips_only: bool = False
    style: str = ""
    """In words; what else is chosen counts more"""
    said: SpokenText | None = None
    """What ``speech`` says, if it was made from text"""


def run_video_worker(connection: Connection, model: str, folder: Path) -> None:
    """Body of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with suppress(OSError, AttributeError):
        os.nice(NICENESS)
    requests: queue.SimpleQueue[VideoRequest] = queue.SimpleQueue()
    threading.Thread(
        target=_read, args=(connection, requests, folder), name="moda-pipe", daemon=True
    ).start()
    head: TalkingHead | None = None
    while True:
        request = requests.get()
        try:
            head = head or _load(model)
            connection.send(("done", make_video(head, request, connection)))
        except ModaError as error:
            connection.send(("failed", _without_paths(str(error), request)))
        except OSError:
            return  # the server is gone
        except Exception:  # a bug must not end the process with the other videos
            traceback.print_exc()
            connection.send(("failed", "an internal error; the server's log has it"))


def make_video(head: TalkingHead, request: VideoRequest, connection: Connection) -> float:
    """Make one video and tell about it on the way; its length in seconds."""
    from moda.encoders.style import amount_if_chosen, encode_style
    from moda.structures import EmotionAt, Style

    told = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told > PROGRESS_SECONDS:
            told = time.monotonic()
            connection.send(("progress", done / max(total, 1)))

    delivery = encode_style(request.style).with_chosen(
        head_motion=amount_if_chosen(request.head_motion),
        expression=amount_if_chosen(request.expression),
        blink_rate=request.blink_rate,
        gaze=request.gaze,
    )
    schedule = delivery.style.schedule
    if request.emotion is not None:
        schedule = (EmotionAt(0.0, request.emotion, request.intensity),)
    elif request.said is not None:
        schedule = (*schedule, *request.said.style.schedule)
    video = head.generate(
        request.portrait,
        request.said or request.speech,
        style=Style(schedule),
        seed=request.seed,
        size=request.size,
        full_frame=request.full_frame,
        head_motion=delivery.head_motion,
        expression=delivery.expression,
        blink=request.blink,
        blink_rate=delivery.blink_rate,
        gaze=delivery.gaze,
        lips_only=request.lips_only,
    )
    return video.write(request.output, progress=progress).seconds


def _read(connection: Connection, requests: queue.SimpleQueue[VideoRequest], folder: Path) -> None:
    with suppress(EOFError, OSError):
        while (message := connection.recv()) is not None:
            requests.put(message)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _load(model: str) -> TalkingHead:
    import torch

    from moda.pipeline import TalkingHead

    torch.set_num_threads(1)
    return TalkingHead.from_pretrained(model, device="cpu")


def _without_paths(message: str, request: VideoRequest) -> str:
    """An error as the client knows its files."""
    named = ((request.portrait, "the portrait"), (request.speech, "the speech"))
    for path, name in (*named, (request.output, "the video")):
        message = message.replace(str(path), name)
    return message
