"""How large a video is where no size is chosen, and what is said of a small face."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from moda.options import FrameOptions
from moda.pipeline import TalkingHead
from moda.structures import Picture
from moda.structures.landmarks import FACE_OVAL
from moda.systems.notes import notes_on


@pytest.mark.parametrize(
    ("size", "own", "expected"),
    [(None, 300, 512), (None, 701, 700), (None, 3000, 1024), ("own", 3001, 3000), ("own", 20, 64),
     ("own", 9000, 4096), (129, 900, 128)],
)  # fmt: skip
def test_the_longer_side(size: int | None, own: int, expected: int) -> None:
    assert FrameOptions(size=size).longer_side(own) == expected


@pytest.mark.parametrize("full_frame", [True, False], ids=["full frame", "crop"])
def test_a_video_has_the_size_of_what_it_shows(photograph: Picture, full_frame: bool) -> None:
    large = cv2.resize(photograph, (1400, 1400), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    system = TalkingHead.from_pretrained("moda-tiny", device="cpu").system
    actor = system.prepare(large, FrameOptions(full_frame=full_frame))
    width, height = actor.renderer.frame_size
    assert width == height
    assert width == 1024 if full_frame else 600 < width < 800
    assert not actor.notes


def test_a_small_face_is_said_with_the_way_out() -> None:
    picture = np.zeros((400, 800, 3), np.uint8)
    landmarks = np.zeros((478, 3))
    landmarks[list(FACE_OVAL), 0] = np.linspace(300.0, 380.0, len(FACE_OVAL))
    (note,) = notes_on(picture, landmarks, FrameOptions())
    assert "10%" in note
    assert "--crop" in note
    assert notes_on(picture, landmarks, FrameOptions(full_frame=False)) == ()
    landmarks *= 2.0
    assert notes_on(picture, landmarks, FrameOptions()) == ()
