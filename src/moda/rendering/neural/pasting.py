"""Back into the photograph: the drawn square of a face, laid over the plate with soft edges."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from moda.rendering.placing import (
    Box,
    clip_box,
    compose_affine,
    invert_affine,
    resize_map,
    transform_points,
)
from moda.structures import Floats, Picture
from moda.structures.landmarks import Array

CROP_SIZE_PX = 512
FEATHER_PX = 16
LONGEST_SIDE_PX = 1920


def feathered_square() -> NDArray[np.uint8]:
    """Mask (512, 512) in 0..255: a square with rounded corners, soft over 16 px.

    The published mask is a file; this is its closed form, at most 1 of 255 away. The first row and
    column are empty, the last ones are not.
    """
    place = np.arange(CROP_SIZE_PX)
    outside = np.maximum(0.0, 1.0 - np.minimum(place, CROP_SIZE_PX - place) / FEATHER_PX)
    distance = np.hypot(outside[:, None], outside[None, :])
    return np.clip(np.floor(256 * (1 - distance)) - 1, 0, 255).astype(np.uint8)


def limited_picture(image: Picture) -> tuple[Picture, Array]:
    """A picture of at most 1920 px with even sides, and the map (2, 3) from the image to it.

    An odd last row or column is cut off, as the published system does.
    """
    height, width = image.shape[:2]
    plate_from_image = resize_map(1.0, 1.0)
    if max(height, width) > LONGEST_SIDE_PX:
        scale = LONGEST_SIDE_PX / max(height, width)
        new_width, new_height = max(2, int(width * scale)), max(2, int(height * scale))
        plate_from_image = resize_map(new_width / width, new_height / height)
        image = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_AREA).astype(
            np.uint8, copy=False
        )
        height, width = new_height, new_width
    return np.ascontiguousarray(image[: height // 2 * 2, : width // 2 * 2]), plate_from_image


class Paster:
    """Lays drawn squares (512, 512, 3) over one plate (H, W, 3).

    Only the box that the square covers is computed; everything that does not change from frame to
    frame - where each pixel comes from, the soft edge, the plate under it - is prepared once.

    Args:
        plate: the still picture under every frame.
        plate_from_crop: (2, 3), points of the square to points of the plate.

    Raises:
        InputError: the square covers hardly a pixel of the plate.
    """

    def __init__(self, plate: Picture, plate_from_crop: Array) -> None:
        self._plate = plate
        zoom = np.sqrt(abs(np.linalg.det(plate_from_crop[:, :2])))
        reduction = max(1, int(1 / zoom))
        self._reduced_px = CROP_SIZE_PX // reduction
        self.box = _covered_box(plate, plate_from_crop, reduction)
        self._places = self._source_places(plate_from_crop)
        weight = self._warp(feathered_square().astype(np.float32) / np.float32(255))
        self._solid = np.where(weight == 1, np.uint8(255), np.uint8(0))
        self._edge = np.nonzero((weight > 0) & (weight < 1))
        self._edge_weight: Floats = weight[self._edge][:, None]
        self._edge_plate: Floats = (1 - self._edge_weight) * self.box.cut(plate)[self._edge]

    @property
    def frame_size(self) -> tuple[int, int]:
        """(width, height) of the plate."""
        return self._plate.shape[1], self._plate.shape[0]

    def paste(self, square: Picture) -> Picture:
        """A new frame (H, W, 3) with the drawn square (512, 512, 3) in its place."""
        drawn = self._warp(square)
        frame = self._plate.copy()
        inside = self.box.cut(frame)
        cv2.copyTo(drawn, self._solid, inside)
        edge = drawn[self._edge] * self._edge_weight + self._edge_plate
        inside[self._edge] = (edge + np.float32(0.5)).astype(np.uint8)
        return frame

    def _source_places(self, plate_from_crop: Array) -> tuple[Floats, Floats]:
        """Where in the square each pixel of the box comes from, as ``cv2.remap`` takes it."""
        reduction = self._reduced_px / CROP_SIZE_PX
        square_from_plate = compose_affine(
            resize_map(reduction, reduction), invert_affine(plate_from_crop)
        )
        columns, rows = np.meshgrid(
            np.arange(self.box.left, self.box.right), np.arange(self.box.top, self.box.bottom)
        )
        points = np.stack([columns.ravel(), rows.ravel()], axis=1).astype(np.float64)
        places = transform_points(square_from_plate, points).astype(np.float32)
        x, y = places.T.reshape(2, self.box.height, self.box.width)
        return np.ascontiguousarray(x), np.ascontiguousarray(y)

    def _warp(self, square: NDArray[Any]) -> NDArray[Any]:
        """The square, or its mask, as it lies in the box; a much smaller box needs averaging."""
        if self._reduced_px < CROP_SIZE_PX:
            size = (self._reduced_px, self._reduced_px)
            square = np.asarray(cv2.resize(square, size, interpolation=cv2.INTER_AREA))
        x, y = self._places
        return cv2.remap(square, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def _covered_box(plate: Picture, plate_from_crop: Array, reduction: int) -> Box:
    """Pixels that the square reaches, its bilinear edge included."""
    low, high = -0.5 - reduction / 2, CROP_SIZE_PX - 0.5 + reduction / 2
    corners = np.array([[low, low], [high, low], [low, high], [high, high]])
    picture = np.array([[0, 0], [plate.shape[1], plate.shape[0]]]) - 0.5
    return clip_box(transform_points(plate_from_crop, corners), picture, plate)
