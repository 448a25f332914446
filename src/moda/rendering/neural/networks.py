"""The networks that draw a portrait, together and at one configuration."""

from __future__ import annotations

from torch import Tensor, nn

from moda.rendering.neural.appearance import AppearanceExtractor
from moda.rendering.neural.generator import SpadeGenerator
from moda.rendering.neural.layers import RenderingConfig
from moda.rendering.neural.retargeting import NUM_EYE_RATIOS, NUM_LIP_RATIOS, KeypointMLP
from moda.rendering.neural.warping import WarpingNetwork
from moda.structures.keypoints import EXPRESSION_SIZE, NUM_KEYPOINTS

PUBLISHED = RenderingConfig()


class RenderingNetworks(nn.Module):
    """Appearance, warping, generator, and the three small networks of the key points."""

    def __init__(self, config: RenderingConfig = PUBLISHED) -> None:
        super().__init__()
        self.config = config
        self.appearance = AppearanceExtractor(config)
        self.warping = WarpingNetwork(config)
        self.generator = SpadeGenerator(config)
        size = EXPRESSION_SIZE
        self.stitching = KeypointMLP(2 * size, 128, 128, 64, size + 2)
        self.lip = KeypointMLP(size + NUM_LIP_RATIOS, 128, 128, 64, size)
        self.eye = KeypointMLP(size + NUM_EYE_RATIOS, 256, 256, 128, 128, 64, size)

    def stitch(self, source_keypoints: Tensor, driving_keypoints: Tensor) -> Tensor:
        """Driving key points (B, 21, 3) fitted to the portrait's own (1 or B, 21, 3)."""
        correction = self.stitching(source_keypoints, driving_keypoints)
        offset = correction[:, :EXPRESSION_SIZE].reshape(-1, NUM_KEYPOINTS, 3)
        shift = nn.functional.pad(correction[:, EXPRESSION_SIZE:], (0, 1))
        return driving_keypoints + offset + shift[:, None]

    def lip_offset(self, source_keypoints: Tensor, ratios: Tensor) -> Tensor:
        """Offsets (B, 21, 3) that take lips of one openness to another: ratios (B, 2)."""
        offset: Tensor = self.lip(source_keypoints, ratios)
        return offset.view(-1, NUM_KEYPOINTS, 3)

    def eye_offset(self, source_keypoints: Tensor, ratios: Tensor) -> Tensor:
        """Offsets (B, 21, 3) that take two eyes' openness to another one: ratios (B, 3)."""
        offset: Tensor = self.eye(source_keypoints, ratios)
        return offset.view(-1, NUM_KEYPOINTS, 3)
