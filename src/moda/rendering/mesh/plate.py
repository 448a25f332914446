"""The plate: the still picture that every frame starts from, and where the face lies in it.

Nothing outside the plate's *box* ever changes, and the warp moves nothing on the box's border, so
that pasting the box back is exact. Where the picture itself cuts through the person - at the top or
the sides - the border is free instead, otherwise hair would be stretched like rubber there. Frames
show the plate's *view*; around it lie pixels of the photograph that motion may bring into sight.
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
    even_size,
    invert_affine,
    sampled_picture,
    scaled_picture,
    transform_points,
)
from moda.structures import Floats, Picture, Portrait
from moda.structures.landmarks import FACE_OVAL, Array, Similarity

Side = Literal["left", "top", "right"]

BOX_SIDE = 1.1
"""Side of the box in that of the portrait's square crop: big hair has room to fade."""
NARROWEST_CROP = 1.6
"""A square that is cut out of the picture is at least this large, in heights of the face."""


@dataclass(frozen=True)
class Plate:
    """The portrait at output size, with all that is known of it in output pixels."""

    image: Picture  # (H, W, 3)
    view: Box
    """What frames show; both sides are even"""
    box: Box
    free_sides: frozenset[Side]
    """Sides of the box on the edge of the photograph, beyond which there are no pixels"""
    landmarks: Array  # (478, 3)
    rest: Similarity
    """canonical -> pixels of the plate"""
    plate_from_crop: Array  # (2, 3)
    person_mask: Floats  # (S, S) on the crop

    plate_from_image: Array  # (2, 3)

    @property
    def crop_from_plate(self) -> Array:
        return invert_affine(self.plate_from_crop)

    def mask_on_plate(self) -> Floats:
        """Person mask (H, W) in 0..1; its border continued outside of the crop."""
        height, width = self.image.shape[:2]
        return cv2.warpAffine(
            self.person_mask, self.plate_from_crop, (width, height), borderMode=cv2.BORDER_REPLICATE
        ).astype(np.float32)

    def sample_crop(self, values: Floats, points: Array) -> Array:
        """Values (S, S) on the crop at points (N, 2) of the plate; the nearest inside the crop."""
        x, y = transform_points(self.crop_from_plate, points).T.astype(np.float32)
        found = cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return found.ravel().astype(np.float64)


def make_plate(portrait: Portrait, *, size: int, full_frame: bool) -> Plate:
    """Scale the photograph once, and carry the portrait's geometry over.

    ``full_frame``: the whole picture, its longer side ``size`` pixels; otherwise
    :func:`shown_region`, to the same side.
    """
    check_frame_size(size)
    side = len(portrait.crop_image)
    square = np.array([[0, 0], [side, 0], [0, side], [side, side]]) - 0.5
    square = BOX_SIDE * (square - square.mean(0)) + square.mean(0)
    square = transform_points(invert_affine(portrait.crop_from_image), square)
    if full_frame:
        image, plate_from_image = scaled_picture(portrait.image, size)
        view = Box(0, 0, image.shape[1], image.shape[0])
    else:
        image, plate_from_image, view = _cropped(portrait, square, size)
    plate_from_crop = compose_affine(plate_from_image, invert_affine(portrait.crop_from_image))
    height, width = portrait.image.shape[:2]
    picture = transform_points(plate_from_image, np.array([[0, 0], [width, height]]) - 0.5)
    box = clip_box(transform_points(plate_from_image, square), picture, image)
    depth_scale = float(np.sqrt(abs(np.linalg.det(plate_from_crop[:, :2]))))
    landmarks = np.column_stack(
        [
            transform_points(plate_from_crop, portrait.crop_landmarks[:, :2]),
            portrait.crop_landmarks[:, 2] * depth_scale,
        ]
    )
    return Plate(
        image=image,
        view=view,
        box=box,
        free_sides=_free_sides(box, picture),
        landmarks=landmarks,
        rest=_rest_pose(portrait.pose, plate_from_crop, depth_scale),
        plate_from_crop=plate_from_crop,
        person_mask=np.ascontiguousarray(portrait.person_mask, np.float32),
        plate_from_image=plate_from_image,
    )


def shown_region(portrait: Portrait, *, full_frame: bool) -> Box:
    """Part of the photograph that frames show.

    Without ``full_frame`` it is a square around the head inside of the picture; where a picture has
    no room for one, what it has of that square.
    """
    height, width = portrait.image.shape[:2]
    if full_frame:
        return Box(0, 0, width, height)
    side = len(portrait.crop_image)
    corners = np.array([[0, 0], [side, side]]) - 0.5
    corners = transform_points(invert_affine(portrait.crop_from_image), corners) + 0.5
    wanted, centre = float(np.ptp(corners[:, 0])), corners.mean(0)
    size = np.minimum(wanted, [width, height])
    face = np.ptp(portrait.landmarks[list(FACE_OVAL), :2], axis=0).max()
    if size.min() >= NARROWEST_CROP * face:
        size[:] = size.min()
    across, down = (int(value) for value in np.round(size))
    left = int(np.clip(round(centre[0] - across / 2), 0, width - across))
    top = int(np.clip(round(centre[1] - down / 2), 0, height - down))
    return Box(left, top, left + across, top + down)


def polygon_mask(points: Array, box: Box) -> NDArray[np.float32]:
    """Antialiased polygon (N, 2) as coverage 0..1 (h, w) over a box."""
    mask = np.zeros((box.height, box.width), np.uint8)
    fixed = np.round((points[:, :2] - (box.left, box.top)) * 16).astype(np.int32)
    cv2.fillPoly(mask, [fixed], (255,), cv2.LINE_AA, 4)
    return mask.astype(np.float32) / np.float32(255)


def blur(picture: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Gaussian blur of a float picture (h, w) or (h, w, C); sigma in pixels."""
    return cv2.GaussianBlur(picture, (0, 0), max(sigma, 0.3)).astype(np.float32, copy=False)


def long_blur(values: Array, sigma: float) -> Array:
    """Gaussian blur of numbers (h, w), up to 4 sigma away; the outermost go on beyond the edges."""
    reach = int(4 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    return cv2.sepFilter2D(
        values, cv2.CV_64F, kernel, kernel, borderType=cv2.BORDER_REPLICATE
    ).astype(np.float64, copy=False)


def _cropped(portrait: Portrait, square: Array, size: int) -> tuple[Picture, Array, Box]:
    """Plate of :func:`shown_region` and what the photograph has around it, its map, its view.

    ``square`` (4, 2): corners of the box in pixels of the image.
    """
    region = shown_region(portrait, full_frame=False)
    width, height = even_size(region.width, region.height, size)
    zoom = np.array([width / region.width, height / region.height])
    start, end = np.array(region[:2], np.float64), np.array(region[2:], np.float64)
    picture = np.array(portrait.image.shape[1::-1])
    before = np.floor(np.clip(start - (square.min(0) + 0.5), 0, start) * zoom).astype(int)
    after = np.floor(np.clip(square.max(0) + 0.5 - end, 0, picture - end) * zoom).astype(int)
    left, top = (int(value) for value in before)
    view = Box(left, top, left + width, top + height)
    full_width, full_height = (int(value) for value in before + after + (width, height))
    shift = before + zoom * (0.5 - start) - 0.5
    plate_from_image = np.array([[zoom[0], 0.0, shift[0]], [0.0, zoom[1], shift[1]]])
    image = sampled_picture(portrait.image, plate_from_image, (full_width, full_height))
    return image, plate_from_image, view


def _free_sides(box: Box, picture: Array) -> frozenset[Side]:
    """Sides of a box that lie on the edge of the picture, whose corners are (2, 2) on the plate."""
    (left, top), (right, _) = picture
    sides: dict[Side, bool] = {
        "left": box.left < left + 2,
        "top": box.top < top + 2,
        "right": box.right > right - 1,
    }
    return frozenset(side for side, is_free in sides.items() if is_free)


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
