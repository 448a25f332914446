"""Serves the page in the test's process and says where."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from moda.pipeline import TalkingHead
from moda.web.server import serve_page
from moda.web.settings import WebSettings
from moda.web.text import TextSpeaker


class Served(NamedTuple):
    url: str
    folder: Path
    """Where the page keeps all files of visitors."""

    def videos_in_the_making(self) -> list[Path]:
        return list((self.folder / "jobs").iterdir())


@contextmanager
def served(head: TalkingHead, speaker: TextSpeaker, settings: WebSettings) -> Iterator[Served]:
    temporary = Path(tempfile.gettempdir())
    before = set(temporary.glob("moda-web-*"))
    with serve_page(head, speaker, settings) as page:
        (folder,) = set(temporary.glob("moda-web-*")) - before
        yield Served(page.url, folder)
    assert not folder.exists(), "nothing of any visitor is left"
