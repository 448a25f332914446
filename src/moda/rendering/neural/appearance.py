"""Picture of a face to its appearance: a feature volume (LivePortrait's network F).

Appearance feature extractor of face-vid2vid (arXiv 2011.15126, figure 12a), as LivePortrait
(arXiv 2407.03168) trained it. Attribute names are the keys of the released file.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar

from torch import Tensor, nn

from moda.rendering.neural.layers import ConvolutionNorm, FoldableModule, RenderingConfig


class DownBlock(FoldableModule):
    """3x3 convolution, batch norm, ReLU, halved in both directions."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1)
        self.norm = nn.BatchNorm2d(channels_out)
        self.pool = nn.AvgPool2d(2)

    def forward(self, features: Tensor) -> Tensor:
        return self.pool(self.norm(self.conv(features)).relu())


class ResidualBlock(FoldableModule):
    """Pre-activation residual block of 3x3x3 convolutions."""

    followed_by: ClassVar[tuple[tuple[str, str], ...]] = (("conv1", "norm2"),)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm3d(channels)
        self.conv1 = nn.Conv3d(channels, channels, kernel_size=3, padding=1)
        self.norm2 = nn.BatchNorm3d(channels)
        self.conv2 = nn.Conv3d(channels, channels, kernel_size=3, padding=1)

    def forward(self, volume: Tensor) -> Tensor:
        change = self.conv1(self.norm1(volume).relu())
        return volume + self.conv2(self.norm2(change).relu())


class AppearanceExtractor(nn.Module):
    """RGB picture (B, 3, 256, 256) in 0..1 -> appearance (B, 32, 16, 64, 64)."""

    def __init__(self, config: RenderingConfig) -> None:
        super().__init__()
        full, half, quarter = config.picture_channels
        channels, self.volume_depth = config.volume_channels, config.volume_depth
        self.first = ConvolutionNorm(3, full, nn.ReLU())
        self.down_blocks = nn.ModuleList((DownBlock(full, half), DownBlock(half, quarter)))
        self.second = nn.Conv2d(quarter, channels * self.volume_depth, kernel_size=1)
        blocks = ((f"3dr{i}", ResidualBlock(channels)) for i in range(config.num_residual_blocks))
        self.resblocks_3d = nn.Sequential(OrderedDict(blocks))

    def forward(self, picture: Tensor) -> Tensor:
        features = self.first(picture)
        for block in self.down_blocks:
            features = block(features)
        volume = self.second(features).unflatten(1, (-1, self.volume_depth))
        return self.resblocks_3d(volume)
