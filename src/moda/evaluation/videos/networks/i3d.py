"""Inflated Inception (I3D): what the Fréchet video distance takes its features from.

Source: J. Carreira and A. Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017, figure 3; as a
video metric: T. Unterthiner et al., "Towards Accurate Generative Models of Video", 2018, which
takes the 400 logits of the network trained on Kinetics-400.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

NUM_CLASSES, INPUT_SIZE_PX, CLIP_FRAMES = 400, 224, 16
BATCH_NORM_EPSILON = 1e-3

INCEPTION: dict[str, tuple[int, tuple[int, int, int, int, int, int]]] = {
    "Mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "Mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "Mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "Mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "Mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "Mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "Mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "Mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "Mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}
"""Channels in, and those of the branches: 1x1; 1x1 then 3x3; 1x1 then 3x3; after the pool."""
POOLS = {
    "Conv3d_1a_7x7": ((1, 3, 3), (1, 2, 2)),
    "Conv3d_2c_3x3": ((1, 3, 3), (1, 2, 2)),
    "Mixed_3c": ((3, 3, 3), (2, 2, 2)),
    "Mixed_4f": ((2, 2, 2), (2, 2, 2)),
}
"""Maximum pools, by the layer that they come after: kernel, stride."""

Triple = tuple[int, int, int]


class InflatedInception(nn.Module):
    """Videos (B, 3, T, 224, 224), RGB in -1..1, T of at least 16 -> logits (B, 400).

    The names of the parts are those of the published conversion of the authors' weights.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(3, 64, (7, 7, 7), (2, 2, 2))
        self.Conv3d_2b_1x1 = Unit(64, 64, (1, 1, 1))
        self.Conv3d_2c_3x3 = Unit(64, 192, (3, 3, 3))
        for name, (channels, branches) in INCEPTION.items():
            self.add_module(name, Inception(channels, branches))
        self.logits = Unit(1024, NUM_CLASSES, (1, 1, 1), is_last=True)

    def forward(self, videos: Tensor) -> Tensor:
        features = videos
        for name, layer in self.named_children():
            if name == "logits":
                features = functional.avg_pool3d(features, (2, 7, 7), stride=1)
            features = layer(features)
            if name in POOLS:
                features = pool_same(features, *POOLS[name])
        return features.mean(dim=(2, 3, 4))


class Inception(nn.Module):
    """Four branches side by side."""

    def __init__(self, channels: int, sizes: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        self.b0 = Unit(channels, sizes[0], (1, 1, 1))
        self.b1a = Unit(channels, sizes[1], (1, 1, 1))
        self.b1b = Unit(sizes[1], sizes[2], (3, 3, 3))
        self.b2a = Unit(channels, sizes[3], (1, 1, 1))
        self.b2b = Unit(sizes[3], sizes[4], (3, 3, 3))
        self.b3b = Unit(channels, sizes[5], (1, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        pooled = pool_same(features, (3, 3, 3), (1, 1, 1))
        branches = (
            self.b0(features),
            self.b1b(self.b1a(features)),
            self.b2b(self.b2a(features)),
            self.b3b(pooled),
        )
        return torch.cat(branches, dim=1)


class Unit(nn.Module):
    """Convolution with TensorFlow's padding, norm and rectifier; the last one is only a bias."""

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: Triple,
        stride: Triple = (1, 1, 1),
        *,
        is_last: bool = False,
    ) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(channels, out, kernel, stride, bias=is_last)
        self.bn = None if is_last else nn.BatchNorm3d(out, eps=BATCH_NORM_EPSILON)
        self._kernel, self._stride = kernel, stride

    def forward(self, features: Tensor) -> Tensor:
        padded = pad_same(features, self._kernel, self._stride)
        result: Tensor = self.conv3d(padded)
        return result if self.bn is None else functional.relu(self.bn(result))


def pad_same(features: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Zeros so that a size becomes itself over the stride, rounded up; the odd one at the end."""
    amounts: list[int] = []
    for size, width, step in zip(features.shape[:1:-1], kernel[::-1], stride[::-1], strict=True):
        missing = max((-(-size // step) - 1) * step + width - size, 0)
        amounts += [missing // 2, missing - missing // 2]
    return functional.pad(features, amounts)


def pool_same(features: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Maximum pool with the same padding; features are not negative, so zeros never win."""
    return functional.max_pool3d(pad_same(features, kernel, stride), kernel, stride)
