"""Small networks that correct driven key points: stitching, lips, eyes.

Stitching keeps the shoulders where the portrait has them; the other two open and close lips and
eyes to a wanted ratio (LivePortrait, arXiv 2407.03168, section 3.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from moda.structures.keypoints import EXPRESSION_SIZE

NUM_LIP_RATIOS = 2
NUM_EYE_RATIOS = 3


class KeypointMLP(nn.Module):
    """Linear layers with ReLU between them; the keys are those of the released file.

    ``sizes`` are the numbers of inputs, of each hidden layer, and of outputs.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for size_in, size_out in pairwise(sizes):
            layers += [nn.Linear(size_in, size_out), nn.ReLU()]
        self.mlp = nn.Sequential(*layers[:-1])

    def forward(self, source_keypoints: Tensor, condition: Tensor) -> Tensor:
        """Key points (1 or B, 21, 3) and what belongs to each row (B, ...) -> (B, outputs)."""
        keypoints = source_keypoints.flatten(1).expand(len(condition), -1)
        return self.mlp(torch.cat((keypoints, condition.flatten(1)), dim=1))


def stitching_network(hidden: Sequence[int] = (128, 128, 64)) -> KeypointMLP:
    """Source and driving key points -> offsets of the key points and one shift in x and y."""
    return KeypointMLP((2 * EXPRESSION_SIZE, *hidden, EXPRESSION_SIZE + 2))


def lip_network(hidden: Sequence[int] = (128, 128, 64)) -> KeypointMLP:
    """Source key points, present and wanted lip ratio -> offsets of the key points."""
    return KeypointMLP((EXPRESSION_SIZE + NUM_LIP_RATIOS, *hidden, EXPRESSION_SIZE))


def eye_network(hidden: Sequence[int] = (256, 256, 128, 128, 64)) -> KeypointMLP:
    """Source key points, present ratios of both eyes, wanted ratio -> offsets of the key points."""
    return KeypointMLP((EXPRESSION_SIZE + NUM_EYE_RATIOS, *hidden, EXPRESSION_SIZE))
