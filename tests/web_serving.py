"""Serves the page in the test's process and says where."""

from __future__ import annotations

import gc
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from moda.pipeline import TalkingHead
from moda.web.server import serve_page
from moda.web.settings import WebSettings
from moda.web.text import TextSpeaker


class Served(NamedTuple):
    url: str
    folder: Path
    """Where the page keeps all files of visitors."""
    streams: dict[str, Any]
    """Pieces of videos in memory, by visitor and run."""

    def videos_in_the_making(self) -> list[Path]:
        return list((self.folder / "jobs").iterdir())


@contextmanager
def served(head: TalkingHead, speaker: TextSpeaker, settings: WebSettings) -> Iterator[Served]:
    """The page on a port of its own: two test processes that look for one at once may collide."""
    if settings.port == 0:
        settings = replace(settings, port=free_port())
    with serve_page(head, speaker, settings) as page:
        yield Served(page.url, page.folder, page.blocks.pending_streams)
    assert not page.folder.exists(), "nothing of any visitor is left"
    forget(page.blocks)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def forget(blocks: Any = None) -> None:
    """Collect the event loops and sockets that Gradio leaves open, which warn when they go."""
    if blocks is not None:
        blocks.server.thread.join(timeout=60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
