"""Sound of 16 bits: as bytes, and as a file of mono sound that is written piece by piece."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from moda.errors import InputError
from moda.files import whole_file
from moda.structures import Floats


def read_pcm(pcm: bytes, num_channels: int = 1) -> Floats:
    """Mono sound (N,) in -1..1 from little-endian 16-bit PCM; channels are averaged.

    Raises:
        InputError: The bytes are no whole number of samples.
    """
    if num_channels < 1 or len(pcm) % (2 * num_channels):
        raise InputError(
            f"{len(pcm)} bytes are no 16-bit PCM of {num_channels} channels; send whole samples"
        )
    samples = np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32768.0)
    return samples if num_channels == 1 else samples.reshape(-1, num_channels).mean(1)


def write_pcm(samples: Floats) -> bytes:
    """Inverse of :func:`read_pcm` for mono sound; what is louder is clipped."""
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype("<i2").tobytes()


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
