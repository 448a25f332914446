"""A process that makes one video after the other for :mod:`moda.serving.videos.queue`.

It reads its work from a pipe and tells how far it is. When the pipe ends, whatever it was doing,
the process ends, and takes its temporary files with it, and the folder of all uploads and results
unless they are kept.
"""

from __future__ import annotations

import os
import queue
import shutil
import signal
import tempfile
import threading
import time
import traceback
from contextlib import AbstractContextManager, nullcontext, suppress
from multiprocessing.connection import Connection
from pathlib import Path

from moda.errors import ModaError
from moda.pipeline import Progress, TalkingHead
from moda.pipeline.jobs import VideoJob, make_video
from moda.workers import take_gpu

RESULT_NAME, PORTRAIT_NAME, SPEECH_NAME = "video.mp4", "portrait", "speech"
"""Files of a job, in a folder of its own."""
NICENESS = 15
"""Live sessions come first."""
PROGRESS_SECONDS = 0.25


def run_video_worker(
    connection: Connection,
    model: str,
    device: str,
    number: int,
    temporary: Path,
    folder: Path | None,
) -> None:
    """Body of the process; ``number`` is that among all workers, which take different GPUs.

    ``temporary`` is for all temporary files. Both folders are removed in the end.
    """
    tempfile.tempdir = os.environ["TMPDIR"] = str(temporary)
    take_gpu(number)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with suppress(OSError, AttributeError):
        os.nice(NICENESS)
    requests: queue.SimpleQueue[VideoJob] = queue.SimpleQueue()
    threading.Thread(
        target=_read,
        args=(connection, requests, (temporary, folder)),
        name="moda-pipe",
        daemon=True,
    ).start()
    head: TalkingHead | None = None
    while True:
        request = requests.get()
        try:
            head = head or TalkingHead.from_pretrained(model, device=device)
            connection.send(("done", _make(head, request, connection)))
        except ModaError as error:
            connection.send(("failed", without_paths(str(error), request.output.parent)))
        except OSError:
            return  # the server is gone
        except Exception:  # a bug must not end the process with the other videos
            traceback.print_exc()
            connection.send(("failed", "an internal error; the server's log has it"))


def _make(head: TalkingHead, job: VideoJob, connection: Connection) -> float:
    """Make one video and tell about it on the way; its length in seconds."""
    told = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told > PROGRESS_SECONDS:
            told = time.monotonic()
            connection.send(("progress", done / max(total, 1)))

    def stages(name: str) -> AbstractContextManager[Progress | None]:
        return nullcontext(progress if name == "Rendering" else None)

    def tell(note: str) -> None:
        connection.send(("note", without_paths(note, job.output.parent)))

    summary = make_video(job, head, stages=stages, tell=tell)
    for note in summary.notes:
        tell(note)
    return summary.seconds


def _read(
    connection: Connection,
    requests: queue.SimpleQueue[VideoJob],
    folders: tuple[Path | None, ...],
) -> None:
    with suppress(EOFError, OSError):
        while (message := connection.recv()) is not None:
            requests.put(message)
    for folder in folders:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def without_paths(message: str, folder: Path) -> str:
    """An error as the client knows the files in the folder of its job."""
    for name in (PORTRAIT_NAME, SPEECH_NAME, RESULT_NAME):
        for path in (folder / name, folder.resolve() / name):
            message = message.replace(str(path), f"the {path.stem}")
    return message.replace(f"{folder}{os.sep}", "")
