"""The generator on a processor: the same blocks on channels-last planes (B, 1, H, W, C)."""

from __future__ import annotations

from threading import Lock

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moda.rendering.neural.cpu.algorithms import enlarged, plane, winograd
from moda.rendering.neural.cpu.convolution import (
    Kernel,
    Modulated,
    TiledConvolution,
    Workers,
    Written,
    kernel_of,
)
from moda.rendering.neural.cpu.kernels import F32, normalising_statistics
from moda.rendering.neural.cpu.memory import Memory, channels_last
from moda.rendering.neural.generator import (
    LEAKY_SLOPE,
    NUM_MIDDLE_BLOCKS,
    SpadeBlock,
    SpadeGenerator,
)

EPSILON = 1e-5
"""Of the instance norms"""
CHANNELS_PER_TASK = 64
POSITIONS_PER_TASK = 2048


class CpuGenerator(nn.Module):
    """A :class:`SpadeGenerator` with the same results in float32, made for inference on a CPU.

    Features (B, 256, 64, 64) -> RGB (B, 3, 512, 512) in 0..1. Holds no parameters: the weights lie
    transformed in memory, four to seven times as large as they were.
    """

    def __init__(self, generator: SpadeGenerator, workers: Workers) -> None:
        super().__init__()
        final = generator.conv_img[0]
        assert isinstance(final, nn.Conv2d)
        self.first = TiledConvolution([[kernel_of(generator.fc)]], plane(winograd(4)), workers)
        names = [*(f"G_middle_{index}" for index in range(NUM_MIDDLE_BLOCKS)), "up_0", "up_1"]
        self.blocks = [
            CpuSpadeBlock(block, workers)
            for block in map(generator.get_submodule, names)
            if isinstance(block, SpadeBlock)
        ]
        self.final = TiledConvolution([[kernel_of(final)]], plane(winograd(6)), workers)
        self._memory = Memory()
        self._lock = Lock()

    @torch.inference_mode()
    def forward(self, feature_map: Tensor) -> Tensor:
        with self._lock:
            return self._draw(channels_last(feature_map.unsqueeze(2)))

    def _draw(self, feature_map: F32) -> Tensor:
        size = feature_map.shape[:4]
        features = self._memory.array("features 1", *size, self.first.num_outputs)
        self.first(feature_map, Written(features))
        for block in self.blocks:
            slope = LEAKY_SLOPE if block is self.blocks[-1] else 1.0
            features = block(features, feature_map, self._memory, slope)
        picture = self._memory.array("picture", *features.shape[:4], self.final.num_outputs)
        self.final(features, Written(picture))
        phases = torch.from_numpy(picture[:, 0]).movedim(-1, 1)
        return F.pixel_shuffle(phases, 2).sigmoid()


class CpuSpadeBlock:
    """A :class:`SpadeBlock` on channels-last planes.

    One pass over the map for all norms, at the size of the map however large the features are.
    Scales and shifts are used up tile by tile. The shift of the shortcut, a 1x1 convolution, is
    convolved together with it.
    """

    def __init__(self, block: SpadeBlock, workers: Workers) -> None:
        self.factor = block.factor
        self.workers = workers
        # Larger tiles need fewer products but more weights, which small planes do not pay back.
        small = block.factor == 1
        tiles = plane(winograd(4 if small else 6))
        norms = [block.norm_0, block.norm_1]
        if block.learned_shortcut:
            norms.append(block.norm_s)
            self.mixing = block.conv_s.weight.detach()[:, :, 0, 0].T.contiguous()
            shift = _followed(kernel_of(block.norm_s.mlp_beta), block.conv_s)
            self.shortcut = TiledConvolution(
                [[_plus_one(kernel_of(block.norm_s.mlp_gamma))], [shift]], tiles, workers
            )
        self.learned_shortcut = block.learned_shortcut
        self.hidden_size = block.norm_0.shared.out_channels
        self.shared = TiledConvolution(
            [[kernel_of(norm.shared)] for norm in norms],
            tiles if small else plane(enlarged(block.factor)),
            workers,
        )
        self.modulation_0, self.modulation_1 = (
            TiledConvolution(
                [[_plus_one(kernel_of(norm.mlp_gamma)), kernel_of(norm.mlp_beta)]], tiles, workers
            )
            for norm in norms[:2]
        )
        self.conv_0, self.conv_1 = (
            TiledConvolution([[kernel_of(conv)]], tiles, workers)
            for conv in (block.conv_0, block.conv_1)
        )

    def __call__(self, features: F32, feature_map: F32, memory: Memory, slope: float) -> F32:
        """Features (B, 1, H, W, C) and the map to features, in memory of theirs or of ``memory``.

        ``slope`` of a leaky ReLU of the result; 1 is none.
        """
        batch_size, _, height, width, _ = feature_map.shape
        size = batch_size, 1, self.factor * height, self.factor * width
        hidden = [
            memory.array(f"hidden {index}", *size, self.hidden_size)
            for index in range(3 if self.learned_shortcut else 2)
        ]
        self.shared(feature_map, *(Written(target, slope=0.0) for target in hidden))
        statistics = self._statistics(features)
        modulated = memory.array("modulated", *size, features.shape[-1])
        residual = features
        if self.learned_shortcut:
            residual = memory.array(f"features {self.factor}", *size, self.conv_1.num_outputs)
            scale = Modulated(modulated, features, statistics, slope=1.0)
            self.shortcut(hidden[2], scale, Written(residual))
            self._add_mixed(modulated, residual)
        self.modulation_0(hidden[0], Modulated(modulated, features, statistics, LEAKY_SLOPE))
        change = memory.array("change", *size, self.conv_0.num_outputs)
        self.conv_0(modulated, Written(change))
        statistics = self._statistics(change)
        modulated = memory.array("modulated", *change.shape)
        self.modulation_1(hidden[1], Modulated(modulated, change, statistics, LEAKY_SLOPE))
        self.conv_1(modulated, Written(residual, slope, residual))
        return residual

    def _statistics(self, features: F32) -> F32:
        channels = features.shape[-1]
        statistics = np.empty((2, len(features), channels), np.float32)
        self.workers.each(
            range(0, channels, CHANNELS_PER_TASK),
            lambda first: normalising_statistics(
                features, first, min(first + CHANNELS_PER_TASK, channels), EPSILON, statistics
            ),
        )
        return statistics

    def _add_mixed(self, features: F32, target: F32) -> None:
        """Add the 1x1 convolution of the features to the target."""
        positions = features.reshape(-1, features.shape[-1])
        targets = target.reshape(-1, target.shape[-1])

        def add(first: int) -> None:
            part = slice(first, first + POSITIONS_PER_TASK)
            torch.from_numpy(targets[part]).addmm_(torch.from_numpy(positions[part]), self.mixing)

        self.workers.each(range(0, len(positions), POSITIONS_PER_TASK), add)


def _plus_one(kernel: Kernel) -> Kernel:
    return Kernel(kernel.weight, kernel.bias + 1)


def _followed(first: Kernel, pointwise: nn.Conv2d) -> Kernel:
    """A convolution and the 1x1 convolution without bias after it as one, in float64."""
    mixing = pointwise.weight.detach()[:, :, 0, 0].double()
    weight = torch.einsum("om, mizyx -> oizyx", mixing, first.weight.double())
    return Kernel(weight, mixing @ first.bias.double())
