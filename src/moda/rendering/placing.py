"""Where pictures lie in each other: boxes and affine maps, for both renderers."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from moda.errors import InputError
from moda.options import MAX_SIZE_PX, MIN_SIZE_PX
from moda.structures import Picture
from moda.structures.landmarks import Array

SMALLEST_STEP = 0.75
"""A picture that becomes smaller by less is sampled as it is: averaging would blur it."""


class Box(NamedTuple):
    """Whole pixels ``left <= x < right``, ``top <= y < bottom``."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    def cut(self, picture: Picture) -> Picture:
        """View of the box in a picture."""
        return picture[self.top : self.bottom, self.left : self.right]


def check_frame_size(size: int) -> None:
    """Raise InputError unless frames may have this longer side in pixels."""
    if size % 2 or not MIN_SIZE_PX <= size <= MAX_SIZE_PX:
        raise InputError(
            f"frame size {size} must be an even number from {MIN_SIZE_PX} to {MAX_SIZE_PX}"
        )


def even_size(width: float, height: float, size: int) -> tuple[int, int]:
    """Width and height scaled to a longer side, both even."""
    scale = size / max(width, height)
    return max(2, 2 * round(width * scale / 2)), max(2, 2 * round(height * scale / 2))


def scaled_picture(image: Picture, size: int) -> tuple[Picture, Array]:
    """A picture with its longer side ``size`` pixels, and the map (2, 3) from the image to it."""
    height, width = image.shape[:2]
    new_width, new_height = even_size(width, height, size)
    if (new_height, new_width) == (height, width):
        return np.ascontiguousarray(image), resize_map(1.0, 1.0)
    is_small_step = new_width >= SMALLEST_STEP * width and new_height >= SMALLEST_STEP * height
    method = cv2.INTER_CUBIC if is_small_step else cv2.INTER_AREA
    scaled = cv2.resize(image, (new_width, new_height), interpolation=method)
    return scaled.astype(np.uint8, copy=False), resize_map(new_width / width, new_height / height)


def sampled_picture(image: Picture, plate_from_image: Array, size: tuple[int, int]) -> Picture:
    """A part of a picture, scaled by an affine map (2, 3) to ``size``, width and height."""
    scale = float(np.sqrt(abs(np.linalg.det(plate_from_image[:, :2]))))
    if scale < SMALLEST_STEP:  # filter down first, then only a small step is left to the sampling
        height, width = image.shape[:2]
        new_size = max(1, round(width * scale)), max(1, round(height * scale))
        image = cv2.resize(image, new_size, interpolation=cv2.INTER_AREA).astype(np.uint8)
        shrink = resize_map(new_size[0] / width, new_size[1] / height)
        plate_from_image = compose_affine(plate_from_image, invert_affine(shrink))
    sampled = cv2.warpAffine(
        image, plate_from_image, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return sampled.astype(np.uint8, copy=False)


def resize_map(scale_x: float, scale_y: float) -> Array:
    """The map of pixel centres that cv2.resize uses."""
    return np.array([[scale_x, 0.0, 0.5 * (scale_x - 1)], [0.0, scale_y, 0.5 * (scale_y - 1)]])


def compose_affine(outer: Array, inner: Array) -> Array:
    """``outer(inner(point))`` of affine maps (2, 3)."""
    linear = outer[:, :2] @ inner[:, :2]
    return np.column_stack([linear, outer[:, :2] @ inner[:, 2] + outer[:, 2]])


def invert_affine(affine: Array) -> Array:
    """Inverse (2, 3) of an affine map (2, 3)."""
    return cv2.invertAffineTransform(affine).astype(np.float64, copy=False)


def transform_points(affine: Array, points: Array) -> Array:
    """Points (N, 2) mapped by an affine map (2, 3)."""
    return points @ affine[:, :2].T + affine[:, 2]


def clip_box(square: Array, picture: Array, image: Picture) -> Box:
    """Whole pixels of a plate inside the corners of a crop (4, 2) and of the photograph (2, 2).

    Raises:
        InputError: hardly a pixel is left.
    """
    low = np.ceil(np.maximum(square.min(0), picture.min(0)))
    high = np.floor(np.minimum(square.max(0), picture.max(0))) + 1
    left, top = (int(v) for v in np.maximum(low, 0))
    right = min(int(high[0]), image.shape[1])
    bottom = min(int(high[1]), image.shape[0])
    if right - left < 16 or bottom - top < 16:
        raise InputError(
            f"the face covers only {right - left} x {bottom - top} pixels of the frame; "
            "choose a larger frame size or render the crop instead of the full frame"
        )
    return Box(left, top, right, bottom)
