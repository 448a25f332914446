"""Whose head, eyes and brows? Those of a driving video, or those of the portrait itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from moda.structures import Floats, Motion, MotionSpace
from moda.structures.keypoints import LIP_KEYPOINTS


def mouth_columns(space: MotionSpace) -> list[int]:
    """Columns of a motion row that move the lips: the only ones that speech has to have."""
    if space.name == "mesh":
        part = space.slice("mouth")
        return list(range(part.start, part.stop))
    return [3 * point + axis for point in LIP_KEYPOINTS for axis in range(3)]


class Guide:
    """The motion of a driving video, row by row, forwards and then backwards, without end.

    Going back and forth never jumps, whatever the first and the last frame look like.
    """

    def __init__(self, motion: Motion) -> None:
        self._values = motion.values
        self._index = 0

    def next(self) -> Floats:
        """Raw motion (D,) of the next frame."""
        last = len(self._values) - 1
        place = self._index % (2 * last) if last else 0
        self._index += 1
        return self._values[min(place, 2 * last - place)]


def keep_mouth_only(
    motions: Iterator[Motion], rest: Floats, guide: Motion | None
) -> Iterator[Motion]:
    """The same lips on a face that otherwise does what the guide does, or rests (D,)."""
    rows = None if guide is None else Guide(guide)
    for motion in motions:
        lips = mouth_columns(motion.space)
        values = np.stack([rest if rows is None else rows.next() for _ in range(len(motion))])
        values[:, lips] = motion.values[:, lips]
        yield Motion(values.astype(np.float32), motion.space)
