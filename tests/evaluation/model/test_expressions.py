"""Distances between emotions of motion, without rendering."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from made_clips import tiny_checkpoint
from moda.evaluation.model.expressions import expressions_report, motion_landmarks, nearest_emotions
from moda.structures import EMOTIONS, Motion
from moda.structures.landmarks import lip_gaps


def test_nearest_emotions() -> None:
    effects = {
        "angry": {"width": 0.0, "height": 0.0},
        "happy": {"width": 6.0, "height": 8.0},
        "sad": {"width": 3.0, "height": 4.5},
    }
    assert nearest_emotions(effects) == (("happy", "sad"), pytest.approx(np.hypot(3.0, 3.5)))


def test_landmarks_are_those_of_the_basis() -> None:
    space = tiny_checkpoint().space
    assert space.basis is not None
    assert space.canonical_face is not None
    values = np.zeros((2, space.size), np.float32)
    values[1, 3] = 2.0
    faces = motion_landmarks(Motion(values, space))
    np.testing.assert_allclose(faces[0], space.canonical_face, atol=1e-6)
    change = lip_gaps(faces[1] - faces[0])
    np.testing.assert_allclose(change, 2.0 * lip_gaps(space.basis[3].astype(float)), atol=1e-6)
    np.testing.assert_array_equal(faces[1, 468:], faces[0, 468:])


def test_an_offset_of_the_mean_is_measured() -> None:
    checkpoint = tiny_checkpoint()
    space = checkpoint.space
    assert space.basis is not None
    widest = int(np.argmax(np.abs(space.basis[:16, 291, 0] - space.basis[:16, 61, 0])))
    with torch.no_grad():
        checkpoint.model.speech_embedder.mouth_head.weight.zero_()
        checkpoint.model.emotion_mean[EMOTIONS.index("happy"), widest] = 3.0
    sound = 0.1 * np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    report = expressions_report(checkpoint, sound)
    assert set(report.effects) == set(EMOTIONS)
    assert abs(report.effects["happy"]["mouth_width"]) > 1.0
    assert "happy" not in report.nearest
    assert report.markdown()[-1].startswith("| surprised |")
