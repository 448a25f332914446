"""Losses of the motion model, and what makes an error in the lips count.

Axis letters: B batch, T frames, D motion, M mouth parameters, G lip distances.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from moda.errors import InputError
from moda.structures import MotionSpace
from moda.structures.landmarks import MOUTH_CORNERS, lip_gaps

SMALLEST_WEIGHT = 0.15
LIP_DISTANCE_WEIGHT = 0.25
SMOOTHNESS_WEIGHT = 0.5
GAP_COLUMN, WIDTH_COLUMN = 4, 9
"""Of the lip distances: the gap in the middle, and the width."""
CORRELATION_WEIGHT = 7.0
"""Of the correlation of gap and width beside the absolute errors: what viewers judge is whether the
lips move when they should, and amplitudes differ from speaker to speaker."""


class MotionMetric(nn.Module):
    """How much an error of each motion parameter shows in the face.

    Mouth parameters weigh by the movement that one standard deviation of them makes. Lip distances
    (nine gaps and the width) are linear in them and get a term of their own.
    """

    weights: Tensor  # (D,)
    lip_rows: Tensor  # (G, M)

    def __init__(self, space: MotionSpace) -> None:
        super().__init__()
        if space.basis is None:
            raise InputError(f"the {space.name} motion space has no vertex basis to see lips in")
        self.mouth = space.slice("mouth")
        mouth_basis = space.basis[self.mouth].astype(np.float64)
        std = space.std[self.mouth].astype(np.float64)
        movement = np.sqrt((mouth_basis[:, :, :2] ** 2).sum((1, 2))) * std
        weights = np.ones(space.size, np.float32)
        weights[self.mouth] = np.clip(movement / movement.max(), SMALLEST_WEIGHT, 1.0)
        right, left = MOUTH_CORNERS
        widths = mouth_basis[:, left, 0] - mouth_basis[:, right, 0]
        rows = np.concatenate([lip_gaps(mouth_basis).T, widths[None]]) * std
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        self.register_buffer("weights", torch.from_numpy(weights), persistent=False)
        self.register_buffer(
            "lip_rows", torch.from_numpy(rows.astype(np.float32)), persistent=False
        )

    def lips(self, mouth: Tensor) -> Tensor:
        """Normalised lip distances (..., G) of normalised mouth parameters (..., M)."""
        return mouth @ self.lip_rows.T

    def flow_loss(self, error: Tensor, inside: Tensor) -> Tensor:
        """Weighted square of a velocity error (B, T, D) and of its change over time.

        ``inside`` (B, T) is 0 in the padding.
        """
        mask = inside[..., None]
        both = mask[:, 1:] * mask[:, :-1]
        position = (mask * self.weights * error**2).mean()
        lips = (mask * self.lips(error[..., self.mouth]) ** 2).mean()
        change = (both * self.weights * error.diff(dim=1) ** 2).mean()
        return position + LIP_DISTANCE_WEIGHT * lips + SMOOTHNESS_WEIGHT * change

    def regression_loss(self, predicted: Tensor, mouth: Tensor, inside: Tensor) -> Tensor:
        """Absolute error of mouth parameters (B, T, M), of lip distances and of their changes, and
        one minus the correlation of gap and width over the window."""
        mask = inside[..., None]
        both = mask[:, 1:] * mask[:, :-1]
        error = predicted - mouth
        predicted_lips, lips = self.lips(predicted), self.lips(mouth)
        lip_error = predicted_lips - lips
        columns = [GAP_COLUMN, WIDTH_COLUMN]
        correlation = masked_correlation(predicted_lips[..., columns], lips[..., columns], mask)
        weights = self.weights[self.mouth]
        return (
            (mask * weights * error.abs()).mean()
            + (mask * lip_error.abs()).mean()
            + 0.3 * (both * weights * error.diff(dim=1).abs()).mean()
            + 0.5 * (both * lip_error.diff(dim=1).abs()).mean()
            + CORRELATION_WEIGHT * (1.0 - correlation).mean()
        )


def plain_loss(error: Tensor, inside: Tensor) -> Tensor:
    """Mean square of an error (B, T, n), plus half of that of its change over time."""
    mask = inside[..., None]
    both = mask[:, 1:] * mask[:, :-1]
    change = (both * error.diff(dim=1) ** 2).mean()
    return (mask * error**2).mean() + SMOOTHNESS_WEIGHT * change


def masked_correlation(first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """Pearson correlation over time of (B, T, n) where ``mask`` (B, T, 1) is 1 -> (B, n)."""
    count = mask.sum(1, keepdim=True).clamp(min=1.0)
    first = (first - (first * mask).sum(1, keepdim=True) / count) * mask
    second = (second - (second * mask).sum(1, keepdim=True) / count) * mask
    norm = ((first**2).sum(1) * (second**2).sum(1) + 1e-3).sqrt()
    return (first * second).sum(1) / norm
