"""Mouths behind masks, hands and microphones, and mouths that are free."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from moda.encoders.covering import is_mouth_covered
from moda.encoders.face import FaceModels
from moda.encoders.portrait import choose_face
from moda.options import FrameOptions
from moda.pipeline import TalkingHead
from moda.structures import Motion, Picture
from moda.structures.landmarks import Array

MASK = (234, 117, 126, 197, 355, 346, 454, 361, 397, 378, 152, 149, 172, 132)
"""Outline of a mask from cheek to cheek, then along the chin."""
BLUE, BLACK, SKIN = (120, 175, 215), (30, 30, 34), (226, 180, 150)


def masked(photograph: Picture, points: Array, colour: tuple[int, int, int]) -> Picture:
    picture = photograph.copy()
    outline = np.round(points[list(MASK), :2] * 16).astype(np.int32)
    cv2.fillPoly(picture, [outline], colour, cv2.LINE_AA, 4)
    for height in (0.3, 0.5, 0.7):
        ends = [(1 - height) * points[top, :2] + height * points[152, :2] for top in (117, 346)]
        start, end = (tuple(int(value) for value in place) for place in ends)
        cv2.line(picture, start, end, tuple(int(0.85 * value) for value in colour), 1, cv2.LINE_AA)
    return picture


def behind_microphone(photograph: Picture, points: Array) -> Picture:
    picture = photograph.copy()
    centre = np.round(points[[13, 14], :2].mean(0)).astype(int)
    radius = round(0.3 * float(np.linalg.norm(points[33, :2] - points[263, :2])))
    foot = (int(centre[0]) + 30, int(centre[1]) + 90)
    cv2.line(picture, (int(centre[0]), int(centre[1])), foot, (60, 60, 66), 12, cv2.LINE_AA)
    cv2.circle(picture, (int(centre[0]), int(centre[1])), radius, BLACK, -1, cv2.LINE_AA)
    return picture


@pytest.fixture(scope="module")
def points(models: FaceModels, photograph: Picture) -> Array:
    return choose_face(photograph, models, None).points


def is_covered(picture: Picture, models: FaceModels) -> bool:
    return is_mouth_covered(picture, choose_face(picture, models, None).points, models)


@pytest.mark.parametrize("colour", [BLUE, BLACK, SKIN], ids=["blue", "black", "skin"])
def test_masks_are_found(
    photograph: Picture, points: Array, models: FaceModels, colour: tuple[int, int, int]
) -> None:
    assert is_covered(masked(photograph, points, colour), models)


def test_a_microphone_is_found(photograph: Picture, points: Array, models: FaceModels) -> None:
    assert is_covered(behind_microphone(photograph, points), models)


@pytest.mark.parametrize("kind", ["as it is", "grey", "dark", "mirrored", "small"])
def test_free_mouths_are_free(photograph: Picture, models: FaceModels, kind: str) -> None:
    changed = {
        "as it is": photograph,
        "grey": np.repeat(photograph[:, :, 1:2], 3, axis=2),
        "dark": photograph // 4,
        "mirrored": np.ascontiguousarray(photograph[:, ::-1]),
        "small": cv2.resize(photograph, (256, 256), interpolation=cv2.INTER_AREA),
    }[kind]
    assert not is_covered(changed.astype(np.uint8), models)


def test_a_mask_is_said_and_nothing_is_painted_on_it(photograph: Picture, points: Array) -> None:
    """However wide the lips would be, below the eyes the face is the photograph's."""
    system = TalkingHead.from_pretrained("moda-tiny", device="cpu").system
    picture = masked(photograph, points, BLUE)
    actor = system.prepare(picture, FrameOptions())
    (note,) = actor.notes
    assert "covered" in note
    row = system.space.rest
    row[system.space.slice("mouth")] = 3.0 * system.space.std[system.space.slice("mouth")]
    (frame,) = actor.renderer.render(Motion(row[None], system.space))
    below = int(points[117, 1])
    assert np.abs(frame.astype(int) - picture)[below:].max() <= 2
