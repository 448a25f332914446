"""What is behind the person: the photograph, a colour, or nothing.

The mask of the person comes from a small network. Its outline is brought onto the edges of the
picture by a guided filter (K. He, J. Sun, X. Tang, "Guided image filtering", PAMI 2013), and the
colour of half-covered pixels is taken from the person beside them, so that no rim of the old
background shines through.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from moda.rendering.mesh.plate import Plate, blur
from moda.structures import Floats, Picture

FILTER_SHARE = 0.02
"""Radius of the guided filter as a share of the longer side of the picture."""
FILTER_EPSILON = 1e-3
SOLID_FROM, EMPTY_BELOW = 0.92, 0.08
"""Coverage that counts as all and as nothing."""
UNSURE = (0.35, 0.65)
"""Between these the network does not know; a ghost of the wall is worse than a hard edge."""
CROP_FEATHER = 0.12
"""The mask of the crop, which is finer, fades into that of the whole picture over this share."""


def person_matte(plate: Plate, whole_mask: Floats | None) -> NDArray[np.uint8]:
    """How much of every pixel of a plate is the person, (H, W).

    Args:
        plate: the still picture, with the mask of the square around the head.
        whole_mask: mask of the whole photograph, of its size; None continues that of the square.
    """
    height, width = plate.image.shape[:2]
    mask = plate.mask_on_plate()
    if whole_mask is not None:
        mask = cv2.warpAffine(whole_mask, plate.plate_from_image, (width, height)).astype(
            np.float32
        )
    side = len(plate.person_mask)
    ramp = np.minimum(np.arange(side), np.arange(side)[::-1]) / (CROP_FEATHER * side)
    ramp = np.clip(ramp, 0.0, 1.0).astype(np.float32)
    weight = cv2.warpAffine(
        np.minimum.outer(ramp, ramp), plate.plate_from_crop, (width, height)
    ).astype(np.float32)
    coarse = mask + weight * (plate.mask_on_plate() - mask)
    low, high = UNSURE
    coarse = np.clip((coarse - low) / (high - low), 0.0, 1.0).astype(np.float32)
    radius = max(2, round(FILTER_SHARE * max(height, width)))
    matte = guided_filter(plate.image, coarse, radius)
    matte = np.clip((matte - EMPTY_BELOW) / (SOLID_FROM - EMPTY_BELOW), 0.0, 1.0)
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    matte = np.clip(matte, cv2.erode(coarse, around), cv2.dilate(coarse, around))
    return np.round(matte * 255).astype(np.uint8)


def guided_filter(guide: Picture, values: Floats, radius: int) -> Floats:
    """Values (H, W) made to follow the edges of a picture's brightness."""
    grey = cv2.cvtColor(guide, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255.0

    def mean(image: Floats) -> Floats:
        size = (2 * radius + 1, 2 * radius + 1)
        return cv2.blur(image, size, borderType=cv2.BORDER_REFLECT_101).astype(np.float32)

    mean_grey, mean_values = mean(grey), mean(values)
    slope = (mean(grey * values) - mean_grey * mean_values) / (
        mean(grey * grey) - mean_grey**2 + FILTER_EPSILON
    )
    offset = mean_values - slope * mean_grey
    return mean(slope) * grey + mean(offset)


def clean_plate(plate: Plate, matte: NDArray[np.uint8]) -> Plate:
    """The plate with half-covered pixels in the person's colour alone."""
    share = (matte.astype(np.float32) / 255.0) ** 4
    picture = plate.image.astype(np.float32)
    radius = 0.006 * max(plate.image.shape[:2])
    near = blur(picture * share[:, :, None], radius) / (blur(share, radius)[:, :, None] + 1e-4)
    known = np.clip(blur(share, radius) * 8.0, 0.0, 1.0)[:, :, None]
    cover = (matte.astype(np.float32) / 255.0)[:, :, None]
    wanted = picture * cover + near * (1.0 - cover)
    cleaned = np.where(cover < 1.0, known * wanted + (1.0 - known) * picture, picture)
    return replace(plate, image=np.round(np.clip(cleaned, 0, 255)).astype(np.uint8))


def put_behind(
    frame: Picture, matte: NDArray[np.uint8], colour: tuple[int, int, int] | None
) -> Picture:
    """A frame (H, W, 3) on a colour; without one (H, W, 4), transparent where the person is not."""
    if colour is None:
        return np.dstack([frame, matte])
    cover = matte.astype(np.uint16)[:, :, None]
    mixed = frame.astype(np.uint16) * cover + np.array(colour, np.uint16) * (255 - cover)
    return ((mixed + 127) // 255).astype(np.uint8)
