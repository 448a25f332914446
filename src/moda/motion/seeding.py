"""The seed of a video that names none: another face or another speech, another performance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from zlib import crc32

import numpy as np

from moda.structures import Floats

HEARD_SAMPLES = 3 * 16_000
"""Samples that are not silent and decide; digital silence at the beginning says nothing."""
MOST_SAMPLES = 30 * 16_000


def derive_seed(identity: Floats, sound: Iterable[Floats]) -> tuple[int, Iterator[Floats]]:
    """A seed from the face (63,) and the beginning of the sound, and the whole sound again.

    The same face with the same recording has the same seed, on the same machine.
    """
    chunks = iter(sound)
    read: list[Floats] = []
    heard = received = 0
    for chunk in chunks:
        read.append(chunk)
        received += len(chunk)
        heard += int(np.count_nonzero(chunk))
        if heard >= HEARD_SAMPLES or received >= MOST_SAMPLES:
            break
    samples = np.concatenate([np.zeros(0, np.float32), *read])[:MOST_SAMPLES]
    quantised = np.round(32767.0 * samples[samples != 0.0][:HEARD_SAMPLES]).astype("<i4")
    face = np.round(1000.0 * identity).astype("<i4")
    return crc32(quantised.tobytes(), crc32(face.tobytes())), chain(read, chunks)
