"""Widths of the networks; convolutions followed by batch norms, and how to fold the norms in.

Attribute names are the keys of the released files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from moda.devices import in_float64

Convolution = nn.Conv2d | nn.Conv3d
BatchNorm = nn.BatchNorm2d | nn.BatchNorm3d


@dataclass(frozen=True)
class RenderingConfig:
    """Widths of the networks; the defaults are the published ones."""

    picture_channels: tuple[int, int, int] = (64, 128, 256)
    """At full, half and quarter size of the picture."""
    volume_channels: int = 32
    volume_depth: int = 16
    num_residual_blocks: int = 6
    compressed_channels: int = 4
    hourglass_channels: tuple[int, ...] = (32, 64, 128, 256, 512, 1024)
    """From full size down to the smallest."""
    feature_channels: int = 256
    generator_channels: tuple[int, int, int] = (512, 256, 64)
    """At the size of the features, at twice and at four times that size."""
    spade_hidden: int = 128


class FoldableModule(nn.Module):
    """A module in which some batch norms directly follow a convolution."""

    followed_by: ClassVar[tuple[tuple[str, str], ...]] = (("conv", "norm"),)
    """Names of a convolution and of the batch norm that takes its result."""


class ConvolutionNorm(FoldableModule):
    """3x3 convolution of (B, C, H, W), batch norm, activation."""

    def __init__(self, channels_in: int, channels_out: int, activation: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1)
        self.norm = nn.BatchNorm2d(channels_out)
        self.activation = activation

    def forward(self, features: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(features)))


def fold_batch_norms(module: nn.Module) -> None:
    """Fold every batch norm that follows a convolution into it, in float64, in place.

    Results stay the same up to rounding. The norms become identities, so that the state dict no
    longer has the keys of the released file: load the weights first.
    """
    for part in module.modules():
        if isinstance(part, FoldableModule):
            for conv_name, norm_name in part.followed_by:
                norm = getattr(part, norm_name)
                if isinstance(norm, BatchNorm):
                    _fold(getattr(part, conv_name), norm)
                    setattr(part, norm_name, nn.Identity())


@torch.no_grad()
def _fold(conv: Convolution, norm: BatchNorm) -> None:
    assert conv.bias is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = in_float64(norm.weight) / (in_float64(norm.running_var) + norm.eps).sqrt()
    centred = in_float64(conv.bias) - in_float64(norm.running_mean)
    bias = in_float64(norm.bias) + gain * centred
    weight = in_float64(conv.weight) * gain.view(-1, *(1,) * (conv.weight.ndim - 1))
    conv.weight = nn.Parameter(weight.to(conv.weight), requires_grad=False)
    conv.bias = nn.Parameter(bias.to(conv.weight), requires_grad=False)
