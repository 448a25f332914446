"""The warping network on a processor: the same figure on channels-last volumes (B, D, H, W, C)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from threading import Lock

import numpy as np
import torch
from torch import Tensor, nn

from moda.rendering.neural.cpu.algorithms import (
    Matrix,
    enlarged,
    fourier_plane,
    plane,
    separable,
    winograd,
)
from moda.rendering.neural.cpu.convolution import (
    Kernel,
    TiledConvolution,
    Workers,
    Written,
    kernel_of,
)
from moda.rendering.neural.cpu.kernels import F32
from moda.rendering.neural.cpu.memory import Memory, channels_last
from moda.rendering.neural.cpu.volume_kernels import (
    Shifts,
    add_taps,
    deform,
    halve,
    propose,
    sample,
)
from moda.rendering.neural.layers import fold_batch_norms
from moda.rendering.neural.warping import (
    HEAT_VARIANCE,
    LEAKY_SLOPE,
    DownBlock,
    Hourglass,
    SingleChannelConvolution,
    UpBlock,
    Warped,
    WarpingNetwork,
    WarpSource,
    warp_source,
)

DEPTHS_PER_TASK = 2
POSITIONS_PER_TASK = 512
MASK_WINDOW = 22
RELU = 0.0


class CpuWarping(nn.Module):
    """A :class:`WarpingNetwork` with the same results in float32, made for inference on a CPU.

    Folds the network's batch norms. Apart from the first layer, which works once per portrait, the
    weights are no parameters: they lie transformed in memory.
    """

    def __init__(self, warping: WarpingNetwork, workers: Workers) -> None:
        super().__init__()
        fold_batch_norms(warping)
        dense = warping.dense_motion_network
        mask_size = dense.mask.kernel_size[0]
        third = _depth_major(kernel_of(warping.third.conv), dense.compress.in_channels)
        self.compress = dense.compress
        self.hourglass = CpuHourglass(dense.hourglass, workers)
        self.mask = TiledConvolution(
            [[kernel_of(dense.mask)]],
            fourier_plane(MASK_WINDOW, mask_size),
            workers,
            depth_taps=mask_size,
        )
        self.occlusion = CpuOcclusion(dense.occlusion, dense.mask.in_channels, workers)
        self.third = TiledConvolution([[third]], plane(winograd(4)), workers)
        self.fourth = kernel_of(warping.fourth)
        self.workers = workers
        self._memory = Memory()
        self._lock = Lock()

    def prepare(self, appearance: Tensor, source_keypoints: Tensor) -> WarpSource:
        """See :meth:`WarpingNetwork.prepare`; volumes are laid out channels last."""
        source = warp_source(appearance, self.compress(appearance).relu(), source_keypoints)
        layout = torch.channels_last_3d
        return source._replace(
            appearance=source.appearance.contiguous(memory_format=layout),
            compressed=source.compressed.contiguous(memory_format=layout),
        )

    @torch.inference_mode()
    def forward(self, source: WarpSource, driving_keypoints: Tensor) -> Warped:
        """Key points (B, 21, 3) of B frames."""
        with self._lock:
            return self._warp(source, driving_keypoints)

    def _warp(self, source: WarpSource, driving_keypoints: Tensor) -> Warped:
        memory = self._memory
        size = (len(driving_keypoints), *source.appearance.shape[-3:])
        levels = self.hourglass.levels(size, memory)
        self._propose(source, driving_keypoints, levels[0])
        volume = self.hourglass(levels, memory)
        logits = memory.array("logits", *size, self.mask.num_outputs)
        self.mask(volume, Written(logits))
        occlusion = self.occlusion(volume)
        shifts = (source.keypoints - driving_keypoints).numpy()
        grid, appearance = source.grid.numpy(), channels_last(source.appearance)[0]
        deformation = np.empty((*size, 3), np.float32)
        depth, *plane = size[1:]
        bent = memory.array("bent", size[0], 1, *plane, depth * appearance.shape[-1])

        def bend(at: tuple[int, int]) -> None:
            frame, first = at
            last, moved = min(first + DEPTHS_PER_TASK, depth), deformation[frame]
            deform(logits[frame], shifts[frame], grid, first, last, moved)
            sample(appearance, moved, first, last, bent[frame, 0])

        self.workers.each(_parts(size), bend)
        return Warped(
            self._features(bent, occlusion),
            torch.from_numpy(occlusion).unsqueeze(1),
            torch.from_numpy(deformation),
        )

    def _propose(self, source: WarpSource, keypoints: Tensor, level: F32) -> None:
        """Write the proposals of every frame into the last channels of a level."""
        compressed, resting_heat = channels_last(source.compressed)[0], source.heat[0].numpy()
        background = channels_last(source.background[0])[0]
        depth, *plane = compressed.shape[:3]
        positions, own = (
            points.numpy().astype(np.float64) for points in (keypoints, source.keypoints)
        )
        shifts = [_shifts(own[0] - points, (depth, *plane)) for points in positions]
        heat = [_heat(points, (depth, *plane)) for points in positions]
        resting = self.hourglass.first_channels[0]
        moving = resting + background.shape[-1]
        level[..., resting:moving] = background

        def propose_moving(at: tuple[int, int]) -> None:
            frame, first = at
            last = min(first + DEPTHS_PER_TASK, depth)
            moved = shifts[frame], heat[frame]
            propose(compressed, *moved, resting_heat, moving, first, last, level[frame])

        self.workers.each(_parts(level.shape), propose_moving)

    def _features(self, bent: F32, occlusion: F32) -> Tensor:
        """What is left of the bent appearance (B, 1, H, W, C) where it is not occluded."""
        third = self._memory.array("third", *bent.shape[:4], self.third.num_outputs)
        self.third(bent, Written(third, LEAKY_SLOPE))
        weight, bias = self.fourth.weight.flatten(1).T, self.fourth.bias
        positions, visible = third.reshape(-1, third.shape[-1]), occlusion.reshape(-1, 1)
        features = np.empty((len(positions), len(bias)), np.float32)

        def finish(first: int) -> None:
            part = slice(first, first + POSITIONS_PER_TASK)
            into = torch.from_numpy(features[part])
            torch.addmm(bias, torch.from_numpy(positions[part]), weight, out=into)
            into.mul_(torch.from_numpy(visible[part]))

        self.workers.each(range(0, len(positions), POSITIONS_PER_TASK), finish)
        return torch.from_numpy(features).view(*occlusion.shape, -1).movedim(-1, 1)


class CpuHourglass:
    """A :class:`Hourglass` whose results of equal size lie side by side, never to be joined.

    A level holds what comes up from the next smaller one, then what goes down from the next larger
    one, from ``first_channels`` on.
    """

    def __init__(self, hourglass: Hourglass, workers: Workers) -> None:
        downs = [block for block in hourglass.encoder.down_blocks if isinstance(block, DownBlock)]
        ups = [block for block in hourglass.decoder.up_blocks if isinstance(block, UpBlock)]
        self.workers = workers
        # Large planes pay for the weights of large tiles; of the smallest ones, the weights cost
        # more time to read than the products to compute.
        usual, small = (separable(*[winograd(size)] * 3) for size in (4, 2))
        tiles = [*[usual] * (len(downs) - 1), small]
        self.downs = [
            TiledConvolution([[kernel_of(block.conv)]], algorithm, workers)
            for block, algorithm in zip(downs, tiles, strict=True)
        ]
        self.ups = [
            TiledConvolution(
                [[kernel_of(block.conv)]],
                separable(winograd(2 if index == 0 else 4), enlarged(2), enlarged(2)),
                workers,
            )
            for index, block in enumerate(ups)
        ]
        self.last = TiledConvolution([[kernel_of(hourglass.decoder.conv)]], usual, workers)
        self.first_channels = [*(up.num_outputs for up in reversed(self.ups)), 0]

    def levels(self, size: tuple[int, ...], memory: Memory) -> list[F32]:
        """Memory of all levels for volumes of ``size`` (B, D, H, W), the largest first."""
        batch_size, depth, height, width = size
        going_down = [self.downs[0].num_inputs, *(down.num_outputs for down in self.downs)]
        return [
            memory.array(
                f"level {index}", batch_size, depth, height >> index, width >> index, first + count
            )
            for index, (first, count) in enumerate(
                zip(self.first_channels, going_down, strict=True)
            )
        ]

    def __call__(self, levels: list[F32], memory: Memory) -> F32:
        """Volume (B, D, H, W, C) from the first level, the others are overwritten."""
        for index, down in enumerate(self.downs):
            level, smaller = levels[index], levels[index + 1]
            full = memory.array("full", *level.shape[:4], down.num_outputs)
            down(level, Written(full, RELU), first_channel=self.first_channels[index])
            self._halve(full, smaller, self.first_channels[index + 1])
        for up, smaller, level in zip(self.ups, levels[:0:-1], levels[-2::-1], strict=True):
            up(smaller, Written(level, RELU))
        decoded = memory.array("decoded", *levels[0].shape)
        self.last(levels[0], Written(decoded, RELU))
        return decoded

    def _halve(self, volume: F32, target: F32, first_channel: int) -> None:
        self.workers.each(
            product(*map(range, volume.shape[:2])),
            lambda at: halve(volume[at], first_channel, target[at]),
        )


class CpuOcclusion:
    """The convolution of all depths to one channel, then the sigmoid: (B, D, H, W, C) -> (B, H, W).

    One product for each tap and position, by matrix products over channels and depth.
    """

    def __init__(self, conv: SingleChannelConvolution, channels: int, workers: Workers) -> None:
        assert conv.bias is not None
        self.size = conv.kernel_size[0]
        self.bias = float(conv.bias)
        taps = conv.weight.detach().view(channels, -1, self.size**2)
        self.weights = taps.transpose(0, 1).contiguous()  # (D, C, taps)
        self.workers = workers

    def __call__(self, volume: F32) -> F32:
        batch_size, _, height, width, channels = volume.shape
        summed = np.empty((batch_size, height, width), np.float32)
        for frame, sums in zip(volume, summed, strict=True):
            planes = frame.reshape(len(self.weights), -1, channels)
            taps = np.empty((height * width, self.size**2), np.float32)

            def multiply(first: int, planes: F32 = planes, taps: F32 = taps) -> None:
                part = slice(first, first + POSITIONS_PER_TASK)
                into = torch.from_numpy(taps[part])
                torch.mm(torch.from_numpy(planes[0, part]), self.weights[0], out=into)
                for one_plane, weights in zip(planes[1:], self.weights[1:], strict=True):
                    into.addmm_(torch.from_numpy(one_plane[part]), weights)

            self.workers.each(range(0, len(taps), POSITIONS_PER_TASK), multiply)
            add_taps(taps.reshape(height, width, -1), self.size, self.bias, sums)
        return torch.from_numpy(summed).sigmoid().numpy()


def _parts(size: Sequence[int]) -> Iterable[tuple[int, int]]:
    """Frame and first depth of pieces of work on volumes of ``size`` (B, D, ...)."""
    return product(range(size[0]), range(0, size[1], DEPTHS_PER_TASK))


def _depth_major(kernel: Kernel, channels: int) -> Kernel:
    """Inputs of a plane in the order depth, channel instead of channel, depth."""
    outputs, inputs, *size = kernel.weight.shape
    weight = kernel.weight.view(outputs, channels, inputs // channels, *size)
    weight = weight.transpose(1, 2).flatten(1, 2)
    return Kernel(weight, kernel.bias)


def _shifts(shifts: Matrix, size: tuple[int, ...]) -> Shifts:
    """How the volume of ``size`` (D, H, W) is sampled for each of the shifts (K, 3)."""
    longest = max(size)
    lower = np.zeros((len(shifts), 3, longest), np.int64)
    upper_weight = np.zeros(lower.shape, np.float32)
    for axis, length in enumerate(reversed(size)):
        positions = _positions(length) + shifts[:, axis, None]
        index = np.clip(((positions + 1) * length - 1) / 2, -1, length)
        below = np.minimum(np.floor(index), length - 1)
        lower[:, axis, :length] = below
        upper_weight[:, axis, :length] = index - below
    return lower, upper_weight


def _heat(points: Matrix, size: tuple[int, ...]) -> F32:
    """(K, 3, longest axis): the Gaussians around points (K, 3) along x, y and z."""
    heat = np.zeros((len(points), 3, max(size)), np.float32)
    for axis, length in enumerate(reversed(size)):
        distances = _positions(length) - points[:, axis, None]
        heat[:, axis, :length] = np.exp(-np.square(distances) / (2 * HEAT_VARIANCE))
    return heat


def _positions(length: int) -> Matrix:
    return np.linspace(-1.0, 1.0, length)
