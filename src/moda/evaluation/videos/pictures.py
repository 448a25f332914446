"""Picture metrics as pure functions on decoded frames (H, W, 3), uint8, RGB."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from moda.evaluation.metrics import psnr
from moda.evaluation.rendered.reenactment import region_masks
from moda.structures import Picture
from moda.structures.landmarks import Array

Mask = NDArray[np.bool_]

LUMA_WEIGHTS = (0.299, 0.587, 0.114)
"""Of red, green and blue; ITU-R BT.601."""
SSIM_SIGMA_PX, SSIM_WINDOW_PX = 1.5, 11
SSIM_CONSTANTS = ((0.01 * 255.0) ** 2, (0.03 * 255.0) ** 2)
PSNR_CEILING_DB = 100.0
"""Of pictures that are equal, for which the ratio is infinite."""

BACKGROUND_POINTS, MIN_BACKGROUND_POINTS = 200, 8
MAX_RETURN_ERROR_PX = 0.5
"""A corner counts if it is found again when it is followed back."""
FLOW_WINDOW_PX, FLOW_LEVELS = (15, 15), 2
BACKGROUND_LEVEL = 0.05
"""Person probability below which a pixel is background."""


class Regions(NamedTuple):
    """Where pictures are compared; (H, W) masks."""

    whole: Mask
    face: Mask
    mouth: Mask


class PictureScore(NamedTuple):
    """One frame against the real one: dB, and SSIM in -1..1."""

    psnr_whole: float
    psnr_face: float
    psnr_mouth: float
    ssim_whole: float
    ssim_face: float
    ssim_mouth: float


def regions(landmarks: Array, size: tuple[int, int]) -> Regions:
    """Masks for a frame of the size (width, height) from its real landmarks (478, 3) in pixels.

    The face is the hull of the face oval, the mouth region reaches from the base of the nose over
    the smile folds to the chin.
    """
    width, height = size
    face, mouth = region_masks(landmarks[:, :2], (height, width))
    return Regions(np.ones((height, width), np.bool_), face, mouth)


def compare_pictures(picture: Picture, real: Picture, where: Regions) -> PictureScore:
    """All picture metrics of one frame; a region outside the frame gives NaN."""
    ssim = ssim_map(luma(picture), luma(real))
    db = [
        min(psnr(picture, real, mask), PSNR_CEILING_DB) if mask.any() else np.nan for mask in where
    ]
    shares = [float(ssim[mask].mean()) if mask.any() else np.nan for mask in where]
    return PictureScore(*db, *shares)


def luma(picture: Picture) -> Array:
    """(H, W) brightness in 0..255."""
    return picture.astype(np.float64) @ np.array(LUMA_WEIGHTS)


def ssim_map(first: Array, second: Array) -> Array:
    """(H, W) structural similarity at every pixel of two brightness pictures (H, W) in 0..255.

    With means, variances and covariance under a Gaussian of 1.5 pixels, borders mirrored:
    ``(2 m1 m2 + c1)(2 v12 + c2) / ((m1^2 + m2^2 + c1)(v1 + v2 + c2))``.

    Source: Z. Wang, A. Bovik, H. Sheikh and E. Simoncelli, "Image Quality Assessment: From Error
    Visibility to Structural Similarity", TIP 2004, equation 13.
    """

    def blur(values: Array) -> Array:
        window = (SSIM_WINDOW_PX, SSIM_WINDOW_PX)
        return cv2.GaussianBlur(
            values, window, SSIM_SIGMA_PX, borderType=cv2.BORDER_REFLECT_101
        ).astype(np.float64)

    c1, c2 = SSIM_CONSTANTS
    mean1, mean2 = blur(first), blur(second)
    variance1 = blur(first * first) - mean1 * mean1
    variance2 = blur(second * second) - mean2 * mean2
    covariance = blur(first * second) - mean1 * mean2
    numerator = (2.0 * mean1 * mean2 + c1) * (2.0 * covariance + c2)
    return numerator / ((mean1**2 + mean2**2 + c1) * (variance1 + variance2 + c2))


def background_mask(person: NDArray[np.floating]) -> Mask:
    """(H, W) what is background for sure, from the person probability (H, W) of the portrait.

    A twentieth of the height is kept away from the person, who moves.
    """
    side = 2 * round(0.05 * person.shape[0]) + 1
    grown = cv2.dilate((person > BACKGROUND_LEVEL).astype(np.uint8), np.ones((side, side)))
    return np.asarray(grown == 0, np.bool_)


class BackgroundMotion:
    """How much the background moves from frame to frame, by corners that are followed.

    Source of the tracker: B. Lucas and T. Kanade, "An Iterative Image Registration Technique",
    IJCAI 1981, in OpenCV's pyramidal form; corners: J. Shi and C. Tomasi, CVPR 1994.
    """

    def __init__(self, background: Mask) -> None:
        self._background = background.astype(np.uint8) * 255
        self._previous: Picture | None = None
        self._steps: list[float] = []

    def see(self, picture: Picture) -> None:
        """Take the next frame."""
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.uint8)
        if self._previous is not None:
            self._steps.append(background_step(self._previous, grey, self._background))
        self._previous = grey

    def pixels_per_frame(self) -> float:
        """Mean over frames of the median step in pixels; NaN where nothing can be followed."""
        known = [step for step in self._steps if np.isfinite(step)]
        return float(np.mean(known)) if known else float("nan")


def background_step(
    previous: NDArray[np.uint8], grey: NDArray[np.uint8], mask: NDArray[np.uint8]
) -> float:
    """Median step in pixels of corners inside the mask (H, W), 255 is inside; NaN of too few."""
    found = cv2.goodFeaturesToTrack(previous, BACKGROUND_POINTS, 0.02, 5, mask=mask)
    if found is None or len(found) < MIN_BACKGROUND_POINTS:
        return float("nan")
    corners = np.asarray(found, np.float32)
    moved, there = _follow(previous, grey, corners)
    back, again = _follow(grey, previous, moved)
    returned = np.linalg.norm((back - corners).reshape(-1, 2), axis=1) < MAX_RETURN_ERROR_PX
    kept = (there.ravel() == 1) & (again.ravel() == 1) & returned
    if kept.sum() < MIN_BACKGROUND_POINTS:
        return float("nan")
    steps = np.linalg.norm((moved - corners).reshape(-1, 2)[kept], axis=1)
    return float(np.median(steps))


def _follow(
    first: NDArray[np.uint8], second: NDArray[np.uint8], points: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Where points (N, 1, 2) are in the second picture, and which were found."""
    moved, found, _ = cv2.calcOpticalFlowPyrLK(
        first, second, points, points.copy(), winSize=FLOW_WINDOW_PX, maxLevel=FLOW_LEVELS
    )
    return np.asarray(moved, np.float32), np.asarray(found, np.uint8)


def mean_scores(scores: Iterable[PictureScore]) -> dict[str, float]:
    """Means over frames by name; NaN where there are none, or a region was never inside."""
    rows: Sequence[PictureScore] = list(scores)
    means = {}
    for index, name in enumerate(PictureScore._fields):
        values = np.array([row[index] for row in rows], float)
        known = values[np.isfinite(values)]
        means[name] = float(known.mean()) if len(known) else float("nan")
    return means
