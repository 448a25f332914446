"""Picture of a face to implicit key points, pose and expression (LivePortrait's network M).

A ConvNeXt V2 (arXiv 2301.00808), tiny, with seven linear heads, as LivePortrait (arXiv 2407.03168)
trained it. Attribute names are the keys of the released file.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from moda.errors import InputError
from moda.structures import ImplicitFace
from moda.structures.keypoints import (
    EXPRESSION_SIZE,
    NUM_ANGLE_BINS,
    NUM_KEYPOINTS,
    angles_from_logits,
)

PICTURE_PX = 256
NORM_EPS = 1e-6


class ExtractedMotion(NamedTuple):
    """What the network says of each of B faces."""

    pitch_logits: Tensor  # (B, 66)
    yaw_logits: Tensor  # (B, 66)
    roll_logits: Tensor  # (B, 66)
    translation: Tensor  # (B, 3)
    expression: Tensor  # (B, 63) key-point-major
    scale: Tensor  # (B, 1)
    canonical_keypoints: Tensor  # (B, 63) key-point-major


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (B, C, H, W)."""

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features.movedim(1, -1)).movedim(-1, 1)


class GlobalResponseNorm(nn.Module):
    """GRN of (B, H, W, C) features (ConvNeXt V2, arXiv 2301.00808, section 3 and algorithm 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, channels))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, channels))

    def forward(self, features: Tensor) -> Tensor:
        response = torch.linalg.vector_norm(features, dim=(1, 2), keepdim=True)
        divisive = response / (response.mean(dim=-1, keepdim=True) + NORM_EPS)
        return self.gamma * (features * divisive) + self.beta + features


class Block(nn.Module):
    """ConvNeXt V2 block: depthwise 7x7, norm, wide layer, GELU, GRN, narrow layer, residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, kernel_size=7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=NORM_EPS)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.grn = GlobalResponseNorm(4 * channels)
        self.pwconv2 = nn.Linear(4 * channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        tokens = self.norm(self.dwconv(features).movedim(1, -1))
        change = self.pwconv2(self.grn(F.gelu(self.pwconv1(tokens))))
        return features + change.movedim(-1, 1)


class Backbone(nn.Module):
    """RGB pictures (B, 3, 256, 256) in 0..1 -> what the heads say of them."""

    def __init__(self, depths: Sequence[int], channels: Sequence[int]) -> None:
        super().__init__()
        stem = nn.Sequential(
            nn.Conv2d(3, channels[0], kernel_size=4, stride=4),
            ChannelNorm(channels[0], eps=NORM_EPS),
        )
        self.downsample_layers = nn.ModuleList([stem])
        for before, after in pairwise(channels):
            norm = ChannelNorm(before, eps=NORM_EPS)
            halve = nn.Conv2d(before, after, kernel_size=2, stride=2)
            self.downsample_layers.append(nn.Sequential(norm, halve))
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(width) for _ in range(depth)))
            for depth, width in zip(depths, channels, strict=True)
        )
        self.norm = nn.LayerNorm(channels[-1], eps=NORM_EPS)
        self.fc_kp = nn.Linear(channels[-1], EXPRESSION_SIZE)
        self.fc_scale = nn.Linear(channels[-1], 1)
        self.fc_pitch = nn.Linear(channels[-1], NUM_ANGLE_BINS)
        self.fc_yaw = nn.Linear(channels[-1], NUM_ANGLE_BINS)
        self.fc_roll = nn.Linear(channels[-1], NUM_ANGLE_BINS)
        self.fc_t = nn.Linear(channels[-1], 3)
        self.fc_exp = nn.Linear(channels[-1], EXPRESSION_SIZE)

    def forward(self, features: Tensor) -> ExtractedMotion:
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            features = stage(downsample(features))
        pooled = self.norm(features.mean(dim=(-2, -1)))
        return ExtractedMotion(
            pitch_logits=self.fc_pitch(pooled),
            yaw_logits=self.fc_yaw(pooled),
            roll_logits=self.fc_roll(pooled),
            translation=self.fc_t(pooled),
            expression=self.fc_exp(pooled),
            scale=self.fc_scale(pooled),
            canonical_keypoints=self.fc_kp(pooled),
        )


class MotionExtractor(nn.Module):
    """RGB pictures (B, 3, 256, 256) in 0..1 -> :class:`ExtractedMotion`; published sizes."""

    def __init__(
        self,
        depths: Sequence[int] = (3, 3, 9, 3),
        channels: Sequence[int] = (96, 192, 384, 768),
    ) -> None:
        super().__init__()
        self.detector = Backbone(depths, channels)

    def forward(self, pictures: Tensor) -> ExtractedMotion:
        return self.detector(pictures)


@torch.inference_mode()
def extract_faces(extractor: MotionExtractor, pictures: NDArray[np.uint8]) -> list[ImplicitFace]:
    """Faces in crops (B, 256, 256, 3), RGB uint8; computed where the extractor's weights are.

    Raises InputError if the pictures have another shape or type.
    """
    if pictures.dtype != np.uint8 or pictures.shape[1:] != (PICTURE_PX, PICTURE_PX, 3):
        raise InputError(
            f"face pictures are {pictures.dtype} {pictures.shape}; "
            f"the motion extractor needs uint8 (B, {PICTURE_PX}, {PICTURE_PX}, 3)"
        )
    weight = extractor.detector.norm.weight
    scaled = torch.tensor(pictures, device=weight.device).to(weight.dtype) / 255
    extracted = extractor(scaled.movedim(-1, 1))
    *logits, translation, expression, scale, canonical = (
        part.float().cpu().numpy() for part in extracted
    )
    angles = np.stack([angles_from_logits(part) for part in logits], axis=-1)
    motion = np.concatenate((expression, scale, translation, angles), axis=-1)
    keypoints = canonical.reshape(-1, NUM_KEYPOINTS, 3)
    return [ImplicitFace(*face) for face in zip(keypoints, motion, strict=True)]
