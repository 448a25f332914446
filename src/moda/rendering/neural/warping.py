"""Appearance and key points to the features of one frame (LivePortrait's network W).

Dense motion of face-vid2vid (arXiv 2011.15126, section 3.2 and figure 12): every key point
proposes a shift of the appearance volume, a hourglass network mixes the proposals into one
deformation and tells what is occluded. Attribute names are the keys of the released file.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moda.rendering.neural.layers import ConvolutionNorm, FoldableModule, RenderingConfig
from moda.structures.keypoints import NUM_KEYPOINTS

HEAT_VARIANCE = 0.01
LEAKY_SLOPE = 0.01


class WarpSource(NamedTuple):
    """What does not change from frame to frame of one portrait."""

    appearance: Tensor  # (1, C, D, H, W)
    keypoints: Tensor  # (1, 21, 3)
    compressed: Tensor  # (1, 4, D, H, W)
    background: Tensor
    """(1, 1, 5, D, H, W): the proposal that moves nothing, an empty heat map before it"""
    heat: Tensor  # (1, 21, D, H, W)
    grid: Tensor  # (D, H, W, 3) positions of the voxels


class Warped(NamedTuple):
    """One frame's features, before they are drawn."""

    features: Tensor  # (B, 256, H, W)
    occlusion: Tensor  # (B, 1, H, W) in 0..1
    deformation: Tensor
    """(B, D, H, W, 3): where each voxel takes its appearance from; x, y, z in -1..1"""


def axis_positions(size: int, *, like: Tensor) -> Tensor:
    """Positions of ``size`` voxels along one axis, -1 and 1 included."""
    index = torch.arange(size, dtype=like.dtype, device=like.device)
    return 2 * index / (size - 1) - 1


def identity_grid(size: Sequence[int], *, like: Tensor) -> Tensor:
    """(D, H, W, 3): position x, y, z of every voxel of a volume of ``size`` (D, H, W)."""
    z, y, x = (axis_positions(length, like=like) for length in size)
    return torch.stack(torch.meshgrid(z, y, x, indexing="ij")[::-1], dim=-1)


def heat_maps(keypoints: Tensor, size: Sequence[int]) -> Tensor:
    """(B, 21, D, H, W): a Gaussian of variance 0.01 around each of the key points (B, 21, 3).

    A product of one Gaussian per axis.
    """
    x, y, z = (
        torch.exp(-(axis_positions(length, like=keypoints) - center).square() / (2 * HEAT_VARIANCE))
        for length, center in zip(reversed(size), keypoints[..., None].unbind(-2), strict=True)
    )
    return z[..., :, None, None] * y[..., None, :, None] * x[..., None, None, :]


def sample_volume(volume: Tensor, positions: Tensor) -> Tensor:
    """Volume (B, C, D, H, W) at positions (B, D, H, W, 3), linearly, zero outside.

    The positions of the grid count the outermost voxels' centres as -1 and 1, the sampling their
    outer faces: the networks were trained with this difference.
    """
    return F.grid_sample(volume, positions, align_corners=False, padding_mode="zeros")


def interpolation(shift: Tensor, size: int) -> Tensor:
    """Matrices (B, 21, size, size) that sample an axis at its positions moved by (B, 21).

    Row by row the weights of :func:`sample_volume` along this axis: at most two, none outside.
    """
    position = axis_positions(size, like=shift) + shift[..., None]
    index = ((position + 1) * size - 1) / 2
    voxels = torch.arange(size, dtype=shift.dtype, device=shift.device)
    return (1 - (index[..., None] - voxels).abs()).clamp_(min=0)


def shifted_volumes(volume: Tensor, shifts: Tensor) -> Tensor:
    """A volume (1, C, D, H, W) as each of the shifts (B, 21, 3) moves it: (B, 21, C, D, H, W).

    Shifting is separable: one small matrix per axis instead of eight voxels per position.
    """
    depth, height, width = volume.shape[-3:]
    x, y, z = (
        interpolation(shift, length)
        for shift, length in zip(shifts.unbind(-1), (width, height, depth), strict=True)
    )
    moved = volume.flatten(1, 2) @ x.mT[:, :, None]  # (B, 21, C * D, H, W)
    moved = y[:, :, None] @ moved
    moved = z[:, :, None] @ moved.view(*shifts.shape[:2], -1, depth, height * width)
    return moved.view(*shifts.shape[:2], -1, depth, height, width)


class DownBlock(FoldableModule):
    """3x3x3 convolution, batch norm, ReLU, halved in the plane."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels_in, channels_out, kernel_size=3, padding=1)
        self.norm = nn.BatchNorm3d(channels_out)
        self.pool = nn.AvgPool3d((1, 2, 2))

    def forward(self, volume: Tensor) -> Tensor:
        return self.pool(self.norm(self.conv(volume)).relu_())


class UpBlock(FoldableModule):
    """Doubled in the plane, 3x3x3 convolution, batch norm, ReLU."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.enlarge = nn.Upsample(scale_factor=(1, 2, 2))
        self.conv = nn.Conv3d(channels_in, channels_out, kernel_size=3, padding=1)
        self.norm = nn.BatchNorm3d(channels_out)

    def forward(self, volume: Tensor) -> Tensor:
        return self.norm(self.conv(self.enlarge(volume))).relu_()


class Encoder(nn.Module):
    """Halves the volume again and again and keeps every size."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.down_blocks = nn.ModuleList(DownBlock(*pair) for pair in pairwise(channels))

    def forward(self, volume: Tensor) -> list[Tensor]:
        volumes = [volume]
        for block in self.down_blocks:
            volumes.append(block(volumes[-1]))
        return volumes


class Decoder(FoldableModule):
    """Doubles the volume again and again, with the encoder's volume of the same size beside it."""

    def __init__(self, channels: Sequence[int], skipped: int) -> None:
        super().__init__()
        inputs = [channels[0], *(2 * width for width in channels[1:-1])]
        self.up_blocks = nn.ModuleList(
            UpBlock(*pair) for pair in zip(inputs, channels[1:], strict=True)
        )
        self.out_channels = channels[-1] + skipped
        self.conv = nn.Conv3d(self.out_channels, self.out_channels, kernel_size=3, padding=1)
        self.norm = nn.BatchNorm3d(self.out_channels)

    def forward(self, volumes: list[Tensor]) -> Tensor:
        *skipped, volume = volumes
        for block, beside in zip(self.up_blocks, reversed(skipped), strict=True):
            volume = torch.cat((block(volume), beside), dim=1)
        return self.norm(self.conv(volume)).relu_()


class Hourglass(nn.Module):
    """Volume (B, C, D, H, W) -> (B, C + channels[0], D, H, W), seen at many sizes (a U-Net)."""

    def __init__(self, channels_in: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.encoder = Encoder((channels_in, *channels[1:]))
        self.decoder = Decoder(channels[::-1], skipped=channels_in)

    def forward(self, volume: Tensor) -> Tensor:
        return self.decoder(self.encoder(volume))


class SingleChannelConvolution(nn.Conv2d):
    """Square convolution of many channels to one, the size of the picture kept.

    One product per tap and position, and then the taps are moved into place and added up.
    Libraries compute a whole vector of channels where one is asked for.
    """

    def __init__(self, channels_in: int, kernel_size: int) -> None:
        super().__init__(channels_in, 1, kernel_size, padding=kernel_size // 2)

    def forward(self, features: Tensor) -> Tensor:
        assert self.bias is not None
        size = self.kernel_size[0]
        taps = self.weight[0].flatten(1).flip(1).mT @ features.flatten(2)
        summed = F.fold(taps, features.shape[-2:], size, padding=size // 2)
        return summed + self.bias


class DenseMotionNetwork(FoldableModule):
    """Key points of portrait and frame to a deformation of the volume.

    The geometry has the precision of the key points, also where the networks have less (autocast).
    """

    followed_by: ClassVar[tuple[tuple[str, str], ...]] = (("compress", "norm"),)

    def __init__(self, config: RenderingConfig) -> None:
        super().__init__()
        num_proposals, compressed = NUM_KEYPOINTS + 1, config.compressed_channels
        self.compress = nn.Conv3d(config.volume_channels, compressed, kernel_size=1)
        self.norm = nn.BatchNorm3d(compressed)
        self.hourglass = Hourglass(num_proposals * (1 + compressed), config.hourglass_channels)
        channels = self.hourglass.decoder.out_channels
        self.mask = nn.Conv3d(channels, num_proposals, kernel_size=7, padding=3)
        self.occlusion = SingleChannelConvolution(channels * config.volume_depth, kernel_size=7)

    def prepare(self, appearance: Tensor, keypoints: Tensor) -> WarpSource:
        """Everything about the portrait that all its frames share."""
        return warp_source(appearance, self.norm(self.compress(appearance)).relu(), keypoints)

    def forward(self, source: WarpSource, keypoints: Tensor) -> tuple[Tensor, Tensor]:
        """How the volume is bent (B, D, H, W, 3), and what of it can be seen (B, 1, H, W)."""
        with full_precision(keypoints):
            proposed = proposals(source, keypoints)
        volume = self.hourglass(proposed)
        weights = self.mask(volume).softmax(dim=1)
        occlusion = self.occlusion(volume.flatten(1, 2)).sigmoid()
        with full_precision(keypoints):
            return mixed(weights, source, keypoints), occlusion


def warp_source(appearance: Tensor, compressed: Tensor, keypoints: Tensor) -> WarpSource:
    """What follows from a portrait's appearance, its few channels, and its key points."""
    size = appearance.shape[-3:]
    grid = identity_grid(size, like=keypoints)
    compressed = compressed.to(keypoints.dtype)
    unmoved = sample_volume(compressed, grid[None])
    background = torch.cat((torch.zeros_like(unmoved[:, :1]), unmoved), dim=1)[:, None]
    heat = heat_maps(keypoints, size)
    return WarpSource(appearance, keypoints, compressed, background, heat, grid)


def full_precision(keypoints: Tensor) -> torch.autocast:
    """Context in which no product is rounded to fewer bits."""
    return torch.autocast(keypoints.device.type, enabled=False)


def proposals(source: WarpSource, keypoints: Tensor) -> Tensor:
    """(B, 22 * 5, D, H, W): per proposal a heat map and the volume as it would be moved.

    The first moves nothing; key point k (B, 21, 3) moves everything by its own shift.
    """
    heat = heat_maps(keypoints, source.grid.shape[:3]) - source.heat
    moved = shifted_volumes(source.compressed, source.keypoints - keypoints)
    moving = torch.cat((heat.unsqueeze(2), moved), dim=2)
    background = source.background.expand(len(moving), -1, -1, -1, -1, -1)
    return torch.cat((background, moving), dim=1).flatten(1, 2)


def mixed(weights: Tensor, source: WarpSource, keypoints: Tensor) -> Tensor:
    """Deformation (B, D, H, W, 3) of the proposals, weighted by (B, 22, D, H, W).

    The weights of a voxel add up to 1, so that its own position needs none.
    """
    shifts = source.keypoints - keypoints
    moving = weights[:, 1:].flatten(2).to(shifts.dtype)
    return source.grid + (moving.mT @ shifts).view(len(shifts), *source.grid.shape)


class WarpingNetwork(nn.Module):
    """Appearance bent to the pose and expression of a frame, as a map of features."""

    def __init__(self, config: RenderingConfig) -> None:
        super().__init__()
        features = config.feature_channels
        self.dense_motion_network = DenseMotionNetwork(config)
        self.third = ConvolutionNorm(
            config.volume_channels * config.volume_depth, features, nn.LeakyReLU(LEAKY_SLOPE)
        )
        self.fourth = nn.Conv2d(features, features, kernel_size=1)

    def prepare(self, appearance: Tensor, source_keypoints: Tensor) -> WarpSource:
        """Appearance (1, C, D, H, W) and the portrait's own key points (1, 21, 3), once."""
        return self.dense_motion_network.prepare(appearance, source_keypoints)

    def forward(self, source: WarpSource, driving_keypoints: Tensor) -> Warped:
        """Key points (B, 21, 3) of B frames."""
        deformation, occlusion = self.dense_motion_network(source, driving_keypoints)
        volume = source.appearance.expand(len(deformation), -1, -1, -1, -1)
        bent = sample_volume(volume, deformation).flatten(1, 2)
        return Warped(self.fourth(self.third(bent)) * occlusion, occlusion, deformation)
