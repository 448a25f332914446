"""Serves the page in the test's process and says where."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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
    with serve_page(head, speaker, settings) as page:
        yield Served(page.url, page.folder, page.blocks.pending_streams)
    assert not page.folder.exists(), "nothing of any visitor is left"
    forget(page.blocks)


def forget(blocks: Any = None) -> None:
    """Collect the event loops and sockets that Gradio leaves open, which warn when they go."""
    if blocks is not None:
        blocks.server.thread.join(timeout=60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
