"""The networks that draw a portrait, together and at one configuration."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from moda.rendering.neural.appearance import AppearanceExtractor
from moda.rendering.neural.generator import SpadeGenerator
from moda.rendering.neural.retargeting import eye_network, lip_network, stitching_network
from moda.rendering.neural.warping import WarpingNetwork
from moda.structures.keypoints import EXPRESSION_SIZE, NUM_KEYPOINTS


@dataclass(frozen=True)
class RenderingConfig:
    """Widths of the networks; the defaults are the published ones."""

    picture_channels: tuple[int, int, int] = (64, 128, 256)
    volume_channels: int = 32
    volume_depth: int = 16
    num_residual_blocks: int = 6
    compressed_channels: int = 4
    hourglass_channels: tuple[int, ...] = (32, 64, 128, 256, 512, 1024)
    feature_channels: int = 256
    generator_channels: tuple[int, int, int] = (512, 256, 64)
    spade_hidden: int = 128


PUBLISHED = RenderingConfig()


class RenderingNetworks(nn.Module):
    """Appearance, warping, generator, and the three small networks of the key points."""

    def __init__(self, config: RenderingConfig = PUBLISHED) -> None:
        super().__init__()
        self.config = config
        self.appearance = AppearanceExtractor(
            config.picture_channels,
            config.volume_channels,
            config.volume_depth,
            config.num_residual_blocks,
        )
        self.warping = WarpingNetwork(
            config.volume_channels,
            config.volume_depth,
            config.compressed_channels,
            config.hourglass_channels,
            config.feature_channels,
        )
        self.generator = SpadeGenerator(
            config.feature_channels, config.generator_channels, config.spade_hidden
        )
        self.stitching = stitching_network()
        self.lip = lip_network()
        self.eye = eye_network()

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
