"""Small networks that correct driven key points: stitching, lips, eyes.

Stitching keeps the shoulders where the portrait has them; the other two open and close lips and
eyes to a wanted ratio (LivePortrait, arXiv 2407.03168, section 3.3).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

NUM_LIP_RATIOS = 2
NUM_EYE_RATIOS = 3


class KeypointMLP(nn.Module):
    """Linear layers with ReLU between them; the keys are those of the released file.

    ``sizes`` are the numbers of inputs, of each hidden layer, and of outputs.
    """

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for size_in, size_out in pairwise(sizes):
            layers += [nn.Linear(size_in, size_out), nn.ReLU()]
        self.mlp = nn.Sequential(*layers[:-1])

    def forward(self, source_keypoints: Tensor, condition: Tensor) -> Tensor:
        """Key points (1 or B, 21, 3) and what belongs to each row (B, ...) -> (B, outputs)."""
        keypoints = source_keypoints.flatten(1).expand(len(condition), -1)
        return self.mlp(torch.cat((keypoints, condition.flatten(1)), dim=1))
