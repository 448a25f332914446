"""Does a moving picture bend or flicker where skin and hair should only move? On frames alone.

Movement between frames is the dense optical flow of T. Kroeger et al., "Fast Optical Flow using
Dense Inverse Search", ECCV 2016, as OpenCV has it.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from moda.structures import Floats, Picture
from moda.structures.landmarks import Array, eye_distance

FOREHEAD = (54, 103, 67, 109, 10, 338, 297, 332, 284)
"""Upper part of the face's outline, where a fringe lies over the edge of a face mesh."""
BAND, BEND_STEP = 0.30, 0.08
"""Width of the band along that line, and the steps over which movement bends, in outer-eye
distances."""


def bending(first: Picture, later: Picture, landmarks: Array) -> float:
    """How sharply the movement of a picture bends beside the upper line of the face.

    A head that turns moves its hair like a smooth surface; a kink is a second difference of the
    movement over a short way. The 95th percentile of its size in the band, outer-eye distances.

    Args:
        first, later: (H, W, 3) the photograph and a frame in which the head has moved.
        landmarks: (478, 3) of the first, pixels.
    """
    unit = float(eye_distance(landmarks))
    step = max(1, round(BEND_STEP * unit))
    flow = optical_flow(first, later)
    size = (2 * step + 1, 2 * step + 1)
    smooth = cv2.blur(flow, (step, step)) if step > 1 else flow
    bent = np.zeros(flow.shape[:2], np.float64)
    for axis in (0, 1):
        ahead, behind = np.roll(smooth, -step, axis), np.roll(smooth, step, axis)
        bent = np.maximum(bent, np.linalg.norm(ahead - 2.0 * smooth + behind, axis=2))
    line = np.round(landmarks[list(FOREHEAD), :2]).astype(np.int32)
    band = np.zeros(flow.shape[:2], np.uint8)
    cv2.polylines(band, [line], False, (1,), max(1, round(BAND * unit)))
    inside = cv2.erode(np.ones_like(band), np.ones(size, np.uint8), borderValue=0)
    where = (band > 0) & (inside > 0)
    return float(np.percentile(bent[where], 95)) / unit if where.any() else float("nan")


def flicker(frames: Sequence[Picture], where: NDArray[np.bool_]) -> float:
    """What of the frames (T, H, W, 3) is neither the frame before nor the one after, moved.

    Each frame is compared with the mean of its two neighbours, both moved onto it by the optical
    flow. Mean absolute difference inside the mask ``where`` (H, W), grey levels of 255; NaN of
    fewer than three frames.
    """
    rows = []
    for before, here, after in zip(frames, frames[1:], frames[2:], strict=False):
        moved = 0.5 * (_moved_onto(here, before) + _moved_onto(here, after))
        rows.append(np.abs(moved - here.astype(np.float32)).mean(2)[where].mean())
    return float(np.mean(rows)) if rows else float("nan")


def optical_flow(first: Picture, later: Picture) -> Floats:
    """(H, W, 2) where each pixel of the first picture lies in the later one, as an offset x, y."""
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (first, later)]
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = search.calc(grey[0], grey[1], np.zeros((*grey[0].shape, 2), np.float32))
    return flow.astype(np.float32)


def _moved_onto(picture: Picture, other: Picture) -> Floats:
    """The other picture (H, W, 3) moved onto the picture by the flow between them."""
    flow = optical_flow(picture, other)
    rows, columns = np.indices(flow.shape[:2], np.float32)
    return cv2.remap(
        other,
        columns + flow[..., 0],
        rows + flow[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    ).astype(np.float32)
