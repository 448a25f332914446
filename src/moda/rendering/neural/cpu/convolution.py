"""Convolutions of channels-last volumes with fewer multiplications than their definition has.

    window of a tile --(inputs)--> products x weights --(outputs)--> results, written as wished

The middle is one matrix product over channels for every product of the algorithm. Some tiles at a
time go all the way, so that what lies between stays in the caches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier, local
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from moda.rendering.neural.cpu.algorithms import Axes, TileAlgorithm, triple
from moda.rendering.neural.cpu.kernels import (
    F32,
    Transform,
    sparse_transform,
    sum_depth_taps,
    transform_inputs,
    write_modulated,
    write_results,
)

Item = TypeVar("Item")

WINDOW_BYTES = 12 << 20
"""What the windows of the tiles that are worked on together may take, per thread."""
MAX_TILES, MIN_TILES = 512, 16
MAX_COLUMNS = 1024
"""Channels of one matrix product: more of them would fill the caches with results."""
COLUMNS_MULTIPLE = 8
"""Matrix products are faster with a whole number of vectors in a row."""
INPUTS_AT_ONCE = 16
"""Of weights in float64, so that they are no second copy of all."""
NO_RESIDUAL = np.empty((0, 0, 0, 0, 0), np.float32)


class Workers:
    """Threads for compiled loops and single-threaded matrix products, with memory of their own.

    As many as torch uses when they are made. Work is divided by its size, never by their number,
    so that results don't depend on it.
    """

    def __init__(self) -> None:
        self.count = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(self.count, "convolution")
        self._memory = local()
        started = Barrier(self.count)
        self.each(range(self.count), lambda _: self._start(started))
        # torch's number holds for one thread, but new ones take that of the last call.
        torch.set_num_threads(self.count)

    @staticmethod
    def _start(started: Barrier) -> None:
        torch.get_num_threads()  # the first call in a thread forgets what was set before
        started.wait()
        torch.set_num_threads(1)

    def each(self, items: Iterable[Item], task: Callable[[Item], object]) -> None:
        """Do the task for every item and wait; the first error is raised."""

        @torch.inference_mode()
        def run(item: Item) -> None:
            task(item)

        for _ in self._pool.map(run, items):
            pass

    def memory(self, size: int) -> F32:
        """Uninitialised numbers of the calling thread, the same ones in every call."""
        memory: F32 | None = getattr(self._memory, "numbers", None)
        if memory is None or memory.size < size:
            memory = self._memory.numbers = np.empty(size, np.float32)
        return memory[:size]


class Kernel(NamedTuple):
    """Weights of a convolution."""

    weight: Tensor  # (outputs, inputs, depth, height, width)
    bias: Tensor  # (outputs,)


def kernel_of(conv: nn.Conv2d | nn.Conv3d) -> Kernel:
    """The weights of a layer; a plane is a volume of depth 1."""
    weight = conv.weight.detach()
    bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.detach()
    return Kernel(weight if weight.ndim == 5 else weight.unsqueeze(2), bias)


class Columns(NamedTuple):
    """Some channels of a convolution's results, as matrices."""

    target: int
    """Which of the writers takes them"""
    first_channel: int
    weights: Tensor
    """(products, inputs, channels), the channels of all kernels and then some zeros"""
    bias: F32  # (kernels, channels)


class Products(NamedTuple):
    """What a writer is given: results of some tiles before their last transform."""

    numbers: F32  # (products, tiles, channels)
    outputs: Transform
    counts: Axes
    first_tile: int


@dataclass(frozen=True)
class Written:
    """Results with bias, residual and leaky ReLU, from a channel of ``target`` on."""

    target: F32  # (B, D, H, W, C)
    slope: float = 1.0
    """Of the leaky ReLU; 1 is none, 0 a ReLU"""
    residual: F32 | None = None
    first_channel: int = 0

    def write(self, products: Products, columns: Columns) -> None:
        residual = NO_RESIDUAL if self.residual is None else self.residual
        first = self.first_channel + columns.first_channel
        write_results(*products, columns.bias, residual, self.slope, first, self.target)


@dataclass(frozen=True)
class Modulated:
    """A normalised source with scales and shifts, which are the results, and a leaky ReLU."""

    target: F32  # (B, 1, H, W, C)
    source: F32
    """(B, 1, h, w, C), repeated up to the size of the target"""
    statistics: F32
    """(2, B, C): factor and summand that normalise the source"""
    slope: float

    def write(self, products: Products, columns: Columns) -> None:
        first, statistics = columns.first_channel, self.statistics
        write_modulated(
            *products, columns.bias, self.source, statistics, self.slope, first, self.target
        )


Writer = Written | Modulated
"""Takes results of a convolution, stretch by stretch, from several threads at once."""


class TiledConvolution:
    """Convolutions of the same features.

    Args:
        kernels: for each writer of a call the kernels it takes results of: one; or two with equal
            numbers of channels (scale and shift), whose channels arrive side by side.
        algorithm: for kernels of their size.
        workers: the threads to run on.
        depth_taps: taps along the depth that are multiplied one by one; the algorithm is then one
            for planes.
    """

    def __init__(
        self,
        kernels: Sequence[Sequence[Kernel]],
        algorithm: TileAlgorithm,
        workers: Workers,
        *,
        depth_taps: int = 1,
    ) -> None:
        self.workers = workers
        self.depth_taps = depth_taps
        self.steps, self.margins = algorithm.steps, algorithm.margins
        self.inputs = sparse_transform(algorithm.inputs, algorithm.window)
        self.outputs = sparse_transform(algorithm.outputs, algorithm.results)
        matrix = torch.from_numpy(algorithm.weights)
        self.columns = [
            _columns(index, together, first, count, matrix, depth_taps, workers)
            for index, together in enumerate(kernels)
            for first, count in _portions(len(together[0].bias), MAX_COLUMNS // len(together))
        ]
        self.num_products, self.num_inputs = self.columns[0].weights.shape[:2]
        self.num_outputs = sum(len(together[0].bias) for together in kernels)

    def __call__(self, features: F32, *writers: Writer, first_channel: int = 0) -> None:
        """Convolve channels of features (B, D, H, W, C), from ``first_channel`` on."""
        batch_size, *size = features.shape[:4]
        counts = triple(-(-length // step) for length, step in zip(size, self.steps, strict=True))
        tiling = counts, self.steps, self.margins
        num_tiles = batch_size * int(np.prod(counts))
        at_once = self._tiles_at_once(num_tiles, counts[0])

        def convolve(first_tile: int) -> None:
            count = min(at_once, num_tiles - first_tile)
            windows, memory = self._memory(count)
            transform_inputs(
                features, self.inputs, tiling, first_tile, first_channel, windows.numpy()
            )
            for columns in self.columns:
                size = self.num_products, count, columns.weights.shape[2]
                products = memory[: int(np.prod(size))].view(size)
                torch.bmm(windows, columns.weights, out=products)
                numbers = products.numpy()
                if self.depth_taps > 1:
                    numbers = self._summed(numbers, counts[0], memory[products.numel() :].numpy())
                given = Products(numbers, self.outputs, counts, first_tile)
                writers[columns.target].write(given, columns)

        self.workers.each(range(0, num_tiles, at_once), convolve)

    def _tiles_at_once(self, num_tiles: int, depth: int) -> int:
        fitting = WINDOW_BYTES // (4 * self.num_products * self.num_inputs)
        count = max(MIN_TILES, min(MAX_TILES, fitting))
        portions = max(2, -(-num_tiles // count))
        count = -(-num_tiles // (portions + portions % 2))
        return -(-count // depth) * depth if self.depth_taps > 1 else count

    def _memory(self, num_tiles: int) -> tuple[Tensor, Tensor]:
        """Room for the windows (products, tiles, inputs), and for what is made of them."""
        size = self.num_products, num_tiles, self.num_inputs
        num_windows = int(np.prod(size))
        widest = max(columns.weights.shape[2] for columns in self.columns)
        if self.depth_taps > 1:
            widest += widest // self.depth_taps
        memory = self.workers.memory(num_windows + self.num_products * num_tiles * widest)
        numbers = torch.from_numpy(memory)
        return numbers[:num_windows].view(size), numbers[num_windows:]

    def _summed(self, products: F32, depth: int, memory: F32) -> F32:
        """What the taps along the depth give together."""
        num_products, num_tiles, num_columns = products.shape
        size = num_products, num_tiles, num_columns // self.depth_taps
        sums = memory[: int(np.prod(size))].reshape(size)
        sum_depth_taps(products, depth, self.depth_taps, sums)
        return sums


def _portions(count: int, limit: int) -> list[tuple[int, int]]:
    """First item and number of items of equal portions of at most ``limit``."""
    portions = -(-count // limit)
    size = -(-count // portions)
    return [(first, min(size, count - first)) for first in range(0, count, size)]


def _columns(
    target: int,
    kernels: Sequence[Kernel],
    first: int,
    count: int,
    matrix: Tensor,
    depth_taps: int,
    workers: Workers,
) -> Columns:
    """Channels first..first + count of the kernels, their taps transformed in float64."""
    weights = [kernel.weight[first : first + count] for kernel in kernels]
    bias = torch.stack([kernel.bias[first : first + count] for kernel in kernels])
    if depth_taps > 1:
        weights = [_padded(tap.unsqueeze(2)) for weight in weights for tap in weight.unbind(2)]
    taps = _padded(torch.cat(weights)).permute(2, 3, 4, 1, 0).flatten(0, 2)
    transformed = taps.new_empty(len(matrix), *taps.shape[1:], dtype=torch.float32)

    def transform(first: int) -> None:
        part = slice(first, first + INPUTS_AT_ONCE)
        numbers = matrix @ taps[:, part].flatten(1).double()
        transformed[:, part] = numbers.view(len(matrix), -1, taps.shape[2])

    workers.each(range(0, taps.shape[1], INPUTS_AT_ONCE), transform)
    return Columns(target, first, transformed, bias.float().numpy().copy())


def _padded(weight: Tensor) -> Tensor:
    """Outputs up to a multiple, zeros."""
    missing = -len(weight) % COLUMNS_MULTIPLE
    return nn.functional.pad(weight, (0, 0) * (weight.ndim - 1) + (0, missing))
