"""The renderer against real frames: parts with known answers, and a made video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from made_clips import made_clip
from media_files import write_moving_portrait
from moda.encoders.face import FaceModels
from moda.evaluation.rendered.reenactment import (
    calmest_frame,
    match_gain,
    region_masks,
    self_reenactment,
)
from moda.structures.landmarks import lip_gap
from moda.weights.spaces import load_motion_space


def test_calmest_frame_is_closed() -> None:
    clip = made_clip("a", 7)
    landmarks = clip.track.landmarks.astype(np.float64)
    gap = lip_gap(landmarks)
    assert gap[calmest_frame(landmarks)] == pytest.approx(gap.min())


def test_gain_and_masks() -> None:
    generator = np.random.default_rng(1)
    picture = generator.integers(20, 100, (60, 60, 3)).astype(np.uint8)
    where = np.ones((60, 60), bool)
    np.testing.assert_allclose(match_gain(picture, 2.0 * picture, where), 2 * picture, atol=1)
    space = load_motion_space()
    assert space.canonical_face is not None
    points = 30.0 + 25.0 * space.canonical_face[:, :2].astype(np.float64)
    face, mouth = region_masks(points, (100, 60))
    assert face.sum() > 3 * mouth.sum() > 0
    assert (mouth & ~face).sum() < 0.1 * mouth.sum()


def test_self_reenactment_beats_the_still_where_the_face_moves(tmp_path: Path) -> None:
    path = tmp_path / "moves.mp4"
    write_moving_portrait(path, 8.0)
    score_, pairs = self_reenactment(path, FaceModels(), load_motion_space(), num_frames=8)
    assert score_.face > score_.face_still + 1.0
    assert len(pairs) == 5
