"""One short talk of the example portrait, from which the tests build their corpora."""

from __future__ import annotations

import pytest

from talking_videos import Talk, make_talk


@pytest.fixture(scope="session")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Talk:
    """60 frames, 2.4 seconds."""
    return make_talk(tmp_path_factory.mktemp("talk"), 2.4)
