"""A process in place of the one that makes videos: one video takes for ever, others no time."""

from __future__ import annotations

import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

ENDLESS = "endless"
"""Name of the portrait whose video is never done."""
MEMORY_BYTES = 2**28
"""A process that holds much, as a real one does, takes a moment to end when it is killed."""


def run_made_videos(
    connection: Connection, model: str, device: str, number: int, temporary: Path, *_: object
) -> None:
    """In place of :func:`moda.serving.videos.worker.run_video_worker`."""
    memory = bytearray(b"x") * MEMORY_BYTES
    while (request := connection.recv()) is not None:
        if request.portrait.name == ENDLESS:
            Path(tempfile.mkdtemp(dir=temporary), "speech.wav").write_bytes(memory[:9])
            while True:
                connection.send(("progress", 0.5))
        connection.send(("done", 1.0))
