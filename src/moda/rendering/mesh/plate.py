"""The plate: the still picture that every frame starts from, and where the face lies in it.

Nothing outside the plate's *box* ever changes, and the warp moves nothing on the box's border, so
that pasting the box back is exact. Where the picture itself cuts through the person - at the top or
the sides - the border is free instead, otherwise hair would be stretched like rubber there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from moda.rendering.placing import (
    Box,
    check_frame_size,
    clip_box,
    compose_affine,
    invert_affine,
    resize_map,
    scaled_picture,
    transform_points,
)
from moda.structures import Floats, Picture, Portrait
from moda.structures.landmarks import Array, Similarity

Side = Literal["left", "top", "right"]


@dataclass(frozen=True)
class Plate:
    """The portrait at output size, with all that is known of it in output pixels."""

    image: Picture  # (H, W, 3), both even
    box: Box
    free_sides: frozenset[Side]
    """Sides of the box on the edge of the picture, where there is nothing to be seamless with."""
    landmarks: Array  # (478, 3)
    rest: Similarity
    """canonical -> pixels of the plate"""
    plate_from_crop: Array  # (2, 3)
    person_mask: Floats  # (S, S) on the crop

    def mask_on_plate(self) -> Floats:
        """Person mask (H, W) in 0..1; its border continued outside of the crop."""
        height, width = self.image.shape[:2]
        return cv2.warpAffine(
            self.person_mask, self.plate_from_crop, (width, height), borderMode=cv2.BORDER_REPLICATE
        ).astype(np.float32)

    def person_at(self, points: Array) -> Array:
        """Person mask (N,) in 0..1 at points (N, 2) of the plate; the nearest inside the crop."""
        crop_from_plate = invert_affine(self.plate_from_crop)
        x, y = (points @ crop_from_plate[:, :2].T + crop_from_plate[:, 2]).T.astype(np.float32)
        found = cv2.remap(self.person_mask, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return found.ravel().astype(np.float64)


def make_plate(portrait: Portrait, *, size: int, full_frame: bool) -> Plate:
    """Scale the photograph once, and carry the portrait's geometry over.

    ``full_frame``: the whole picture, its longer side ``size`` pixels; otherwise the portrait's
    square crop, ``size`` x ``size``, with the picture's edge repeated outside of it.
    """
    check_frame_size(size)
    if full_frame:
        image, plate_from_image = scaled_picture(portrait.image, size)
    else:
        image, plate_from_image = _square_crop(portrait, size)
    plate_from_crop = compose_affine(plate_from_image, invert_affine(portrait.crop_from_image))
    side = len(portrait.crop_image)
    square = np.array([[0, 0], [side, 0], [0, side], [side, side]]) - 0.5
    height, width = portrait.image.shape[:2]
    picture = np.array([[0, 0], [width, height]]) - 0.5
    box = clip_box(
        transform_points(plate_from_crop, square),
        transform_points(plate_from_image, picture),
        image,
    )
    free: set[Side] = set()
    if box.left == 0:
        free.add("left")
    if box.top == 0:
        free.add("top")
    if box.right == image.shape[1]:
        free.add("right")
    depth_scale = float(np.sqrt(abs(np.linalg.det(plate_from_crop[:, :2]))))
    landmarks = np.column_stack(
        [
            transform_points(plate_from_crop, portrait.crop_landmarks[:, :2]),
            portrait.crop_landmarks[:, 2] * depth_scale,
        ]
    )
    return Plate(
        image=image,
        box=box,
        free_sides=frozenset(free),
        landmarks=landmarks,
        rest=_rest_pose(portrait.pose, plate_from_crop, depth_scale),
        plate_from_crop=plate_from_crop,
        person_mask=np.ascontiguousarray(portrait.person_mask, np.float32),
    )


def polygon_mask(points: Array, box: Box) -> NDArray[np.float32]:
    """Antialiased polygon (N, 2) as coverage 0..1 (h, w) over a box."""
    mask = np.zeros((box.height, box.width), np.uint8)
    fixed = np.round((points[:, :2] - (box.left, box.top)) * 16).astype(np.int32)
    cv2.fillPoly(mask, [fixed], (255,), cv2.LINE_AA, 4)
    return mask.astype(np.float32) / np.float32(255)


def blur(picture: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Gaussian blur of a float picture (h, w) or (h, w, C); sigma in pixels."""
    return cv2.GaussianBlur(picture, (0, 0), max(sigma, 0.3)).astype(np.float32, copy=False)


def _square_crop(portrait: Portrait, size: int) -> tuple[Picture, Array]:
    zoom = size / len(portrait.crop_image)
    plate_from_image = compose_affine(resize_map(zoom, zoom), portrait.crop_from_image)
    scale = float(np.sqrt(abs(np.linalg.det(plate_from_image[:, :2]))))
    image, sampled_from = portrait.image, plate_from_image
    if scale < 0.75:  # filter down first, then only a small step is left to the bilinear sampling
        height, width = image.shape[:2]
        new_size = max(1, round(width * scale)), max(1, round(height * scale))
        image = cv2.resize(image, new_size, interpolation=cv2.INTER_AREA).astype(np.uint8)
        shrink = resize_map(new_size[0] / width, new_size[1] / height)
        sampled_from = compose_affine(plate_from_image, invert_affine(shrink))
    cropped = cv2.warpAffine(
        image, sampled_from, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return cropped.astype(np.uint8, copy=False), plate_from_image


def _rest_pose(pose: Similarity, plate_from_crop: Array, depth_scale: float) -> Similarity:
    turn = np.eye(3)
    turn[:2, :2] = plate_from_crop[:, :2] / depth_scale
    left, _, right = np.linalg.svd(turn)  # nearest rotation: the two scales differ by rounding
    shift = np.append(plate_from_crop[:, 2], 0.0)
    linear = np.eye(3) * depth_scale
    linear[:2, :2] = plate_from_crop[:, :2]
    return Similarity(
        pose.scale * depth_scale, left @ right @ pose.rotation, linear @ pose.translation + shift
    )
