"""The generator's blocks rearranged: equal results from fewer multiplications.

All norms of a block convolve the same map, so that one convolution serves them all. Where the map
was enlarged by repeating its positions, most taps of a kernel see the same value: they are added
up beforehand and the small map is convolved.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moda.devices import in_float64
from moda.rendering.neural.generator import SpadeBlock, SpadeGenerator, enlarge, leaky_relu


class MergedTaps(NamedTuple):
    """Some results along one axis that belong to one position of the small map.

    A position of an n-fold enlarged map, seen by a kernel of three: the first of the n also sees
    the position before, the last the position after, the inner ones nothing but their own.
    """

    sums: list[list[list[float]]]
    """Per result and tap on the small map, which of the three taps are added up"""
    targets: list[slice]
    """Per result, which of the n enlarged positions have it"""


ENDS = MergedTaps([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]], [slice(1), slice(-1, None)])
INNER = MergedTaps([[[1, 1, 1]]], [slice(1, -1)])


class EnlargedConvolution(nn.Module):
    """3x3 convolution of a map enlarged ``factor`` times, from the small map, border included.

    (B, C, H, W) -> (B, C', factor * H, factor * W).
    """

    def __init__(self, conv: nn.Conv2d, factor: int) -> None:
        super().__init__()
        kinds = (ENDS,) if factor == 2 else (ENDS, INNER)
        self.factor = factor
        self.out_channels = conv.out_channels
        self.axes = list(product(kinds, repeat=2))
        self.parts = nn.ModuleList(_merged(conv, rows, columns) for rows, columns in self.axes)

    def forward(self, small: Tensor) -> Tensor:
        height, width = small.shape[-2:]
        results = [part(small) for part in self.parts]
        shape = len(small), self.out_channels, height, self.factor, width, self.factor
        enlarged: Tensor = results[0].new_empty(shape)
        for (rows, columns), result in zip(self.axes, results, strict=True):
            counts = len(rows.targets), len(columns.targets)
            phases = result.view(len(small), *counts, -1, *result.shape[-2:])
            for y, x in product(*map(range, counts)):
                phase = phases[:, y, x, :, y : y + height, x : x + width]
                target = enlarged[:, :, :, rows.targets[y], :, columns.targets[x]]
                target.copy_(phase[:, :, :, None, :, None])
        return enlarged.view(*shape[:2], height * self.factor, width * self.factor)


class MergedSpadeBlock(nn.Module):
    """A :class:`SpadeBlock` with the same results, made for inference.

    One convolution of the map for all norms, scale and shift by one convolution, statistics taken
    once and before the features are enlarged. Of the shortcut, a 1x1 convolution, the shift is
    convolved together with it.
    """

    def __init__(self, block: SpadeBlock) -> None:
        super().__init__()
        self.factor = block.factor
        self.learned_shortcut = block.learned_shortcut
        norms = [block.norm_0, block.norm_1]
        if block.learned_shortcut:
            norms.append(block.norm_s)
        shared = _stacked(*(norm.shared for norm in norms))
        self.shared = shared if block.factor == 1 else EnlargedConvolution(shared, block.factor)
        self.hidden = norms[0].mlp_gamma.in_channels
        self.modulation_0, self.modulation_1 = (
            _stacked(_plus_one(norm.mlp_gamma), norm.mlp_beta) for norm in norms[:2]
        )
        self.conv_0, self.conv_1 = block.conv_0, block.conv_1
        if block.learned_shortcut:
            self.scale_s = _plus_one(block.norm_s.mlp_gamma)
            self.shift_s = _followed(block.norm_s.mlp_beta, block.conv_s)
            self.conv_s = block.conv_s

    def forward(self, features: Tensor, feature_map: Tensor) -> Tensor:
        first, second, *shortcut = self.shared(feature_map).relu_().split(self.hidden, dim=1)
        normalised = F.instance_norm(features)
        if self.factor > 1:
            normalised = enlarge(normalised, 2)
        change = self.conv_0(_activated(normalised, self.modulation_0(first)))
        change = self.conv_1(_activated(F.instance_norm(change), self.modulation_1(second)))
        if self.learned_shortcut:
            scaled = self.scale_s(shortcut[0]).mul_(normalised)
            features = self.shift_s(shortcut[0]).add_(self.conv_s(scaled))
        return change.add_(features)


def merge_generator(generator: SpadeGenerator) -> None:
    """Replace every block of the generator by its merged form, in place."""
    for name, block in list(generator.named_children()):
        if isinstance(block, SpadeBlock):
            setattr(generator, name, MergedSpadeBlock(block))


def _activated(normalised: Tensor, modulation: Tensor) -> Tensor:
    """Scale and shift (B, 2C, H, W), of which the memory is reused, then the leaky ReLU."""
    scale, shift = modulation.chunk(2, dim=1)
    return leaky_relu(shift.addcmul_(normalised, scale), inplace=True)


def _convolution(weight: Tensor, bias: Tensor, *, padding: int | tuple[int, int]) -> nn.Conv2d:
    """A layer with these numbers, in the type of the network."""
    outputs, inputs, height, width = weight.shape
    conv = nn.Conv2d(inputs, outputs, (height, width), padding=padding, device="meta")
    conv.weight = nn.Parameter(weight, requires_grad=False)
    conv.bias = nn.Parameter(bias, requires_grad=False)
    return conv


def _numbers(conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    assert conv.bias is not None
    return conv.weight.detach(), conv.bias.detach()


def _stacked(*convs: nn.Conv2d) -> nn.Conv2d:
    """One 3x3 convolution that gives the channels of several, one after the other."""
    weights, biases = zip(*map(_numbers, convs), strict=True)
    return _convolution(torch.cat(weights), torch.cat(biases), padding=1)


def _plus_one(conv: nn.Conv2d) -> nn.Conv2d:
    """The convolution with 1 added to its result."""
    weight, bias = _numbers(conv)
    return _convolution(weight, bias + 1, padding=1)


def _followed(first: nn.Conv2d, pointwise: nn.Conv2d) -> nn.Conv2d:
    """A 3x3 convolution and the 1x1 convolution without bias after it as one, in float64."""
    weight, bias = (in_float64(numbers) for numbers in _numbers(first))
    mixing = in_float64(pointwise.weight)[:, :, 0, 0]
    joined = torch.einsum("om, mihw -> oihw", mixing, weight)
    return _convolution(joined.to(first.weight), (mixing @ bias).to(first.weight), padding=1)


def _merged(conv: nn.Conv2d, rows: MergedTaps, columns: MergedTaps) -> nn.Conv2d:
    """Convolution of the small map that gives one channel per result of both axes, in float64."""
    weight, bias = _numbers(conv)
    sums = [torch.tensor(axis.sums, dtype=torch.float64) for axis in (rows, columns)]
    merged = torch.einsum("phy, qwx, oiyx -> pqoihw", *sums, in_float64(weight)).flatten(0, 2)
    count = len(rows.targets) * len(columns.targets)
    padding = len(rows.targets) - 1, len(columns.targets) - 1
    return _convolution(merged.to(weight), bias.repeat(count), padding=padding)
