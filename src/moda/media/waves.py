"""Mono sound of 16 bits, written piece by piece."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moda.files import whole_file


@contextmanager
def wave_file(path: Path, sample_rate_hz: int) -> Iterator[wave.Wave_write]:
    """A wav file to write frames to, which is there whole when the context is left, or not at all.

    Raises:
        OutputError: The file cannot be written.
    """
    with (
        whole_file(path) as part,
        part.open("wb") as target,
        wave.open(target, "wb") as file,
    ):
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        yield file
