"""Which face shall speak: a picture of several faces, with their numbers on it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from moda.encoders.face import FaceModels
from moda.encoders.regions import shrink_to
from moda.errors import ModaError
from moda.media import read_image
from moda.structures import Picture

SHOWN_PX = 480
INK, PAPER = (36, 29, 22), (255, 253, 249)


def numbered_faces(path: Path, models: FaceModels) -> tuple[Picture | None, int]:
    """The picture (H, W, 3), small, with the number of each face, and how many there are.

    There is no picture for fewer than two faces. Numbers are those of the option ``face``: from
    left to right, from 1.
    """
    try:
        image = read_image(path)
    except ModaError:  # said when a video is made of it
        return None, 0
    faces = models.find_faces(image, search="all")
    if len(faces) < 2:
        return None, len(faces)
    small = np.ascontiguousarray(shrink_to(image, SHOWN_PX))
    scale = max(small.shape[:2]) / max(image.shape[:2])
    for number, face in enumerate(sorted(faces, key=lambda face: face.region.x), start=1):
        oval = face.points[:, :2] * scale
        left, top = (round(value) for value in oval.min(0))
        right, bottom = (round(value) for value in oval.max(0))
        cv2.rectangle(small, (left, top), (right, bottom), PAPER, 2)
        cv2.circle(small, (left, top), 15, PAPER, -1, cv2.LINE_AA)
        cv2.putText(
            small, str(number), (left - 6, top + 7), cv2.FONT_HERSHEY_SIMPLEX, 0.65, INK, 2,
            cv2.LINE_AA,
        )  # fmt: skip
    return small, len(faces)
