"""Does the background of finished frames stay, and are borders free of repeated pixels?

Both are measured on the pictures alone, whatever renderer or codec they come from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from moda.structures import Floats, Picture
from moda.structures.landmarks import Array

BLOCK_SIDE, SEARCH = 0.2, 0.4
"""Side of a block, and how far it is searched for, in outer-eye distances."""
CLEARANCE = 0.2
"""Least distance of a block from the person, in outer-eye distances: the head sways this far."""
LEAST_BLOCK_PX = 12
LEAST_CONTRAST = 1.5
"""Root of the smaller eigenvalue of a block's structure tensor, in grey levels of 255 per pixel.
Flatter blocks and plain edges have no certain place."""
SHORTEST_STRIPE_SHARE = 0.015
"""Length of the shortest stripe as a share of the picture's longer side."""
REPEATED_WITHIN, STRIPE_CONTRAST = 1.5, 5.0
"""Grey levels: most that a repeated pixel differs, and least between neighbouring stripes."""


@dataclass(frozen=True)
class BackgroundMotion:
    """How far the blocks of a background are from where the first frame shows them."""

    distances: Array
    """(T, N) of N blocks in T later frames, outer-eye distances"""

    @property
    def num_blocks(self) -> int:
        return self.distances.shape[1]

    @property
    def largest(self) -> float:
        """90th percentile over blocks and frames; NaN where nothing can be measured."""
        return float(np.percentile(self.distances, 90)) if self.distances.size else float("nan")


def background_motion(
    frames: Iterable[Picture], person: Floats, eye_distance: float
) -> BackgroundMotion:
    """Find the textured blocks of the first frame's background again in all later frames.

    Args:
        frames: (H, W, 3) each; the first is the reference.
        person: (H, W) mask of the first frame in 0..1.
        eye_distance: between the outer corners of the eyes, pixels.
    """
    pictures = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) for frame in frames)
    first = next(pictures)
    side = max(LEAST_BLOCK_PX, round(BLOCK_SIDE * eye_distance))
    reach = max(2, round(SEARCH * eye_distance))
    corners = textured_blocks(first, person, side, round(CLEARANCE * eye_distance))
    rows = [[_moved(first, later, corner, side, reach) for corner in corners] for later in pictures]
    shape = (len(rows), len(corners))
    return BackgroundMotion(np.array(rows, np.float64).reshape(shape) / eye_distance)


def textured_blocks(grey: Floats, person: Floats, side: int, clearance: int) -> NDArray[np.intp]:
    """Upper left corners (N, 2) as x, y of the blocks that show background and can be found again.

    Args:
        grey: (H, W) brightness in 0..255.
        person: (H, W) mask in 0..1.
        side: of a block, pixels.
        clearance: least distance from the person, pixels.
    """
    away = cv2.distanceTransform((person < 0.5).astype(np.uint8), cv2.DIST_L2, 5) > clearance
    right, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0) / 8, cv2.Sobel(grey, cv2.CV_32F, 0, 1) / 8
    tensor = [right * right, right * down, down * down]
    found = []
    for top in range(0, grey.shape[0] - side + 1, max(1, side // 2)):
        for left in range(0, grey.shape[1] - side + 1, max(1, side // 2)):
            place = (slice(top, top + side), slice(left, left + side))
            xx, xy, yy = (float(values[place].mean()) for values in tensor)
            smaller = 0.5 * (xx + yy) - np.hypot(0.5 * (xx - yy), xy)
            if away[place].all() and smaller > LEAST_CONTRAST**2:
                found.append((left, top))
    return np.array(found, np.intp).reshape(-1, 2)


def border_stripes(picture: Picture) -> float:
    """Largest share of a side of a picture (H, W, 3) from which stripes go inwards.

    A stripe repeats the pixel on the border and differs from the stripes beside it: that is what a
    padding or a warp leaves that had no pixels to show. A photograph has hardly any.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    length = max(6, round(SHORTEST_STRIPE_SHARE * max(grey.shape)))
    sides = (grey, grey[::-1], grey.T, grey.T[::-1])
    return max(_striped_share(side[:length]) for side in sides)


def _striped_share(band: Floats) -> float:
    """Share of the columns of a band (K, W), its first row on the border, that are stripes."""
    repeats = np.abs(band - band[0]).max(0) < REPEATED_WITHIN
    differs = np.abs(band[:, 2:] - band[:, :-2]).min(0) > STRIPE_CONTRAST
    return float((repeats[1:-1] & differs).mean())


def _moved(first: Floats, later: Floats, corner: NDArray[np.intp], side: int, reach: int) -> float:
    """Pixels from a block's place in the first frame to where it matches a later one best."""
    left, top = (int(value) for value in corner)
    block = first[top : top + side, left : left + side]
    if np.array_equal(block, later[top : top + side, left : left + side]):
        return 0.0
    x, y = max(0, left - reach), max(0, top - reach)
    around = later[y : top + side + reach, x : left + side + reach]
    difference = cv2.matchTemplate(around, block, cv2.TM_SQDIFF).astype(np.float32)
    row, column = np.unravel_index(int(difference.argmin()), difference.shape)
    across = column + _lowest(difference[row], int(column)) - (left - x)
    down = row + _lowest(difference[:, column], int(row)) - (top - y)
    return float(np.hypot(across, down))


def _lowest(values: Floats, index: int) -> float:
    """Offset of a parabola's lowest point from the smallest of some values, at most a half."""
    if not 0 < index < len(values) - 1:
        return 0.0
    before, here, after = (float(value) for value in values[index - 1 : index + 2])
    bend = before - 2 * here + after
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend > 0 else 0.0
