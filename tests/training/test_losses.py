"""What an error in the lips costs, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from moda.structures import MotionSpace
from moda.structures.landmarks import MOUTH_CORNERS, lip_gaps
from moda.training.losses import (
    CORRELATION_WEIGHT,
    LIP_DISTANCE_WEIGHT,
    SMOOTHNESS_WEIGHT,
    MotionMetric,
)

MOUTH_SIZE = 16


@pytest.fixture(scope="module")
def metric(space: MotionSpace) -> MotionMetric:
    return MotionMetric(space)


def test_lip_distances_are_those_of_the_face(metric: MotionMetric, space: MotionSpace) -> None:
    assert space.basis is not None
    normalised = np.random.default_rng(0).standard_normal((50, space.size)).astype(np.float32)
    mouth = space.slice("mouth")
    offsets = (space.denormalize(normalised) - space.mean)[:, mouth].astype(np.float64)
    faces = np.tensordot(offsets, space.basis[mouth].astype(np.float64), 1)
    right, left = MOUTH_CORNERS
    widths = faces[:, left, 0] - faces[:, right, 0]
    expected = np.concatenate([lip_gaps(faces), widths[:, None]], axis=1)
    found = metric.lips(torch.from_numpy(normalised[:, mouth])).numpy()
    for column in range(10):
        assert np.corrcoef(found[:, column], expected[:, column])[0, 1] > 0.9999
    # Each is a unit for mouths that are spread as in the clips.
    np.testing.assert_allclose(np.linalg.norm(metric.lip_rows, axis=1), 1.0, atol=1e-5)


def test_a_constant_velocity_error(metric: MotionMetric, space: MotionSpace) -> None:
    row = torch.from_numpy(np.random.default_rng(1).standard_normal(space.size)).float()
    error = row.expand(3, 20, -1)
    lips = metric.lip_rows @ row[:MOUTH_SIZE]
    expected = (metric.weights * row**2).mean() + LIP_DISTANCE_WEIGHT * (lips**2).mean()
    assert metric.flow_loss(error, torch.ones(3, 20)).item() == pytest.approx(expected.item())


def test_a_velocity_error_that_changes_its_sign(metric: MotionMetric, space: MotionSpace) -> None:
    brow = space.slice("brows").start
    error = torch.zeros(1, 21, space.size)
    error[0, :, brow] = torch.tensor([1.0, -1.0] * 10 + [1.0])
    weight = metric.weights[brow].item()
    expected = weight * (1.0 + 4.0 * SMOOTHNESS_WEIGHT) / space.size
    assert metric.flow_loss(error, torch.ones(1, 21)).item() == pytest.approx(expected)


def talking_mouth(num_frames: int = 400) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn((2, num_frames, MOUTH_SIZE), generator=generator)


def test_a_shifted_mouth(metric: MotionMetric) -> None:
    mouth, shift = talking_mouth(), torch.linspace(-0.3, 0.2, MOUTH_SIZE)
    expected = (metric.weights[:MOUTH_SIZE] * shift.abs()).mean()
    expected = expected + (metric.lip_rows @ shift).abs().mean()
    loss = metric.regression_loss(mouth + shift, mouth, torch.ones(2, 400))
    assert loss.item() == pytest.approx(expected.item(), abs=1e-3)


def test_lips_that_move_the_other_way(metric: MotionMetric) -> None:
    """The correlation of a mouth with itself is 1, with its opposite -1, with a still one 0."""
    mouth, inside = talking_mouth(), torch.ones(2, 400)
    weights = metric.weights[:MOUTH_SIZE]
    still = weights @ mouth.abs().mean((0, 1)) / MOUTH_SIZE + metric.lips(mouth).abs().mean()
    still = still + 0.3 * (weights * mouth.diff(dim=1).abs()).mean()
    still = still + 0.5 * metric.lips(mouth).diff(dim=1).abs().mean()
    of_still = metric.regression_loss(torch.zeros_like(mouth), mouth, inside)
    assert of_still.item() == pytest.approx(still.item() + CORRELATION_WEIGHT, rel=1e-3)
    of_opposite = metric.regression_loss(-mouth, mouth, inside)
    assert of_opposite.item() == pytest.approx(2 * still.item() + 2 * CORRELATION_WEIGHT, rel=1e-3)
