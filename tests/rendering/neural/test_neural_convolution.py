"""Convolutions with fewer multiplications against the definition, in float64."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from copy import deepcopy
from typing import Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from moda.rendering.neural.cpu import convolution
from moda.rendering.neural.cpu.acceleration import accelerate_for_cpu
from moda.rendering.neural.cpu.algorithms import (
    Stage,
    TileAlgorithm,
    enlarged,
    fourier_plane,
    plane,
    separable,
    winograd,
)
from moda.rendering.neural.cpu.convolution import (
    Kernel,
    Modulated,
    TiledConvolution,
    Workers,
    Written,
)
from moda.rendering.neural.cpu.kernels import F32, normalising_statistics, sparse_stage
from moda.rendering.neural.layers import RenderingConfig
from moda.rendering.neural.networks import RenderingNetworks

Floats = NDArray[np.float64]

LIMIT = 2e-4
"""For results of up to 8: large tiles lose a few digits, a lost tap all of them."""

SMALL = RenderingConfig(
    picture_channels=(4, 6, 8),
    volume_channels=4,
    volume_depth=5,
    num_residual_blocks=1,
    compressed_channels=2,
    hourglass_channels=(3, 4, 5, 6),
    feature_channels=6,
    generator_channels=(8, 6, 4),
    spade_hidden=5,
)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def workers() -> Workers:
    return Workers()


def random_kernel(channels_out: int, channels_in: int, *size: int) -> Kernel:
    weight = torch.randn(channels_out, channels_in, *size)
    return Kernel(weight * (2 / weight[0].numel()) ** 0.5, torch.randn(channels_out))


def convolved(features: Tensor, kernel: Kernel, enlargement: Sequence[int] = (1, 1, 1)) -> Tensor:
    """By the definition in float64; (B, D, H, W, C) both ways."""
    volume = features.double().movedim(-1, 1)
    volume = F.interpolate(volume, scale_factor=tuple(float(factor) for factor in enlargement))
    padding = [size // 2 for size in kernel.weight.shape[2:]]
    result = F.conv3d(volume, kernel.weight.double(), kernel.bias.double(), padding=padding)
    return result.movedim(1, -1)


def staged(stages: Sequence[Stage], numbers: Floats) -> Floats:
    """By einsum, in float64."""
    for stage in stages:
        shaped = numbers.reshape(stage.outer, -1, stage.inner)
        numbers = np.einsum("rc, oci -> ori", stage.matrix, shaped).ravel()
    return numbers


def distance(found: F32 | Tensor, expected: Tensor) -> float:
    found = torch.as_tensor(found)
    assert found.shape == expected.shape
    return float((found - expected).abs().max())


@pytest.mark.parametrize("results", [2, 4, 6])
def test_winograd_is_a_correlation_of_three_taps(results: Literal[2, 4, 6]) -> None:
    axis = winograd(results)
    window, taps = torch.randn(2, results + 2, dtype=torch.float64).numpy()
    found = axis.outputs @ ((axis.inputs @ window) * (axis.weights @ taps[:3]))
    np.testing.assert_allclose(found, np.correlate(window, taps[:3], "valid"), atol=1e-12)
    assert axis.inputs.shape == (results + 2, results + 2)  # the fewest products there can be
    assert axis.step == results


@pytest.mark.parametrize(("size", "taps"), [(4, 3), (8, 3), (14, 7), (22, 7)])
def test_fourier_is_a_correlation_of_a_plane(size: int, taps: int) -> None:
    algorithm = fourier_plane(size, taps)
    window, weights = torch.randn(2, size, size, dtype=torch.float64)
    weights = weights[:taps, :taps]
    products = staged(algorithm.inputs, window.numpy().ravel())
    products *= algorithm.weights @ weights.numpy().ravel()
    results = size - taps + 1
    found = staged(algorithm.outputs, products).reshape(results, results)
    expected = F.conv2d(window[None, None], weights[None, None])[0, 0]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-12)
    # Four real frequencies, and three products for each pair of the others.
    assert len(algorithm.weights) == 4 + 3 * (size**2 - 4) // 2


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_enlarged_is_a_correlation_with_repeated_inputs(factor: int) -> None:
    axis = enlarged(factor)
    window, taps = torch.randn(2, 3, dtype=torch.float64).numpy()
    found = axis.outputs @ ((axis.inputs @ window) * (axis.weights @ taps))
    whole = np.correlate(window.repeat(factor), taps, "same")
    np.testing.assert_allclose(found, whole[factor : 2 * factor], atol=1e-12)


def test_sparse_stage_has_all_terms() -> None:
    matrix = torch.randn(7, 11, dtype=torch.float64).numpy()
    matrix[matrix < 0.3] = 0
    matrix[:, 2] = 1
    columns, factors, groups, *sizes = sparse_stage(Stage(matrix, 5, 3))
    dense = np.zeros(matrix.shape)
    for row in range(7):
        used = slice(4 * groups[row])
        np.add.at(dense[row], columns[row, used], factors[row, used])
    assert sizes == [11, 5, 3]
    np.testing.assert_allclose(dense, matrix, rtol=1e-6)


SHORT, USUAL, LARGE = winograd(2), winograd(4), winograd(6)


@pytest.mark.parametrize(
    ("algorithm", "size", "features", "channels_out", "enlargement"),
    [
        (plane(SHORT), (1, 3, 3), (1, 1, 2, 3, 1), 1, (1, 1, 1)),
        (plane(USUAL), (1, 3, 3), (2, 1, 13, 9, 20), 33, (1, 1, 1)),
        (plane(USUAL), (1, 3, 3), (1, 1, 8, 16, 3), 5, (1, 1, 1)),
        (plane(LARGE), (1, 3, 3), (1, 1, 16, 17, 150), 40, (1, 1, 1)),
        (separable(SHORT, USUAL, USUAL), (3, 3, 3), (2, 5, 7, 9, 6), 13, (1, 1, 1)),
        (separable(USUAL, USUAL, USUAL), (3, 3, 3), (1, 6, 8, 5, 37), 12, (1, 1, 1)),
        (separable(LARGE, SHORT, USUAL), (3, 3, 3), (1, 1, 1, 1, 4), 3, (1, 1, 1)),
        (plane(enlarged(2)), (1, 3, 3), (2, 1, 5, 4, 7), 6, (1, 2, 2)),
        (plane(enlarged(4)), (1, 3, 3), (1, 1, 3, 1, 7), 6, (1, 4, 4)),
        (separable(USUAL, enlarged(2), enlarged(2)), (3, 3, 3), (1, 3, 4, 5, 9), 8, (1, 2, 2)),
        (fourier_plane(14, 7), (1, 7, 7), (1, 3, 9, 10, 3), 4, (1, 1, 1)),
    ],
)
def test_convolution_is_that_of_the_definition(
    algorithm: TileAlgorithm,
    size: tuple[int, int, int],
    features: tuple[int, ...],
    channels_out: int,
    enlargement: tuple[int, int, int],
    workers: Workers,
) -> None:
    inputs, kernel = torch.randn(features), random_kernel(channels_out, features[-1], *size)
    expected = convolved(inputs, kernel, enlargement)
    found = np.full(expected.shape, np.nan, np.float32)
    TiledConvolution([[kernel]], algorithm, workers)(inputs.numpy(), Written(found))
    assert distance(found, expected) < LIMIT


@pytest.mark.parametrize("depth", [1, 5, 16])
def test_taps_along_the_depth_one_by_one(depth: int, workers: Workers) -> None:
    inputs, kernel = torch.randn(2, depth, 9, 20, 6), random_kernel(5, 6, 7, 7, 7)
    expected = convolved(inputs, kernel)
    found = np.full(expected.shape, np.nan, np.float32)
    convolve = TiledConvolution([[kernel]], fourier_plane(14, 7), workers, depth_taps=7)
    convolve(inputs.numpy(), Written(found))
    assert distance(found, expected) < 1e-5


def test_several_targets_channels_residual_and_slope(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two kernels on some of the channels; one adds to what is there, from a channel on."""
    monkeypatch.setattr(convolution, "MAX_COLUMNS", 4)  # in portions of 4 and 3 channels
    inputs = torch.randn(1, 1, 11, 6, 9)
    kernels = random_kernel(11, 5, 1, 3, 3), random_kernel(6, 5, 1, 3, 3)
    first, second = (convolved(inputs[..., 3:8], kernel) for kernel in kernels)
    before = torch.randn(1, 1, 11, 6, 10)
    joined, alone = before.numpy().copy(), np.empty(first.shape, np.float32)
    convolve = TiledConvolution([[kernel] for kernel in kernels], plane(USUAL), workers)
    convolve(
        inputs.numpy(),
        Written(alone, slope=0.0),
        Written(joined, slope=0.2, residual=joined, first_channel=2),
        first_channel=3,
    )
    assert distance(alone, first.relu()) < LIMIT
    expected = before.double()
    expected[..., 2:8] = F.leaky_relu(expected[..., 2:8] + second, 0.2)
    assert distance(joined, expected) < LIMIT


@pytest.mark.parametrize("shifted", [True, False])
def test_modulation_of_a_repeated_source(
    shifted: bool, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "MAX_COLUMNS", 8)
    inputs, source = torch.randn(2, 1, 10, 14, 4), torch.randn(2, 1, 5, 7, 18)
    scale, shift = random_kernel(18, 4, 1, 3, 3), random_kernel(18, 4, 1, 3, 3)
    statistics = np.empty((2, 2, 18), np.float32)
    normalising_statistics(source.numpy(), 0, 10, 1e-5, statistics)
    normalising_statistics(source.numpy(), 10, 18, 1e-5, statistics)
    normalised = F.instance_norm(source[:, 0].movedim(-1, 1).double())
    large = F.interpolate(normalised, scale_factor=2).movedim(1, -1)[:, None]
    expected = large * convolved(inputs, scale)
    if shifted:
        expected = F.leaky_relu(expected + convolved(inputs, shift), 0.2)
    found = np.full(expected.shape, np.nan, np.float32)
    kernels = [scale, shift] if shifted else [scale]
    modulated = Modulated(found, source.numpy(), statistics, slope=0.2 if shifted else 1.0)
    TiledConvolution([kernels], plane(LARGE), workers)(inputs.numpy(), modulated)
    assert distance(found, expected) < LIMIT


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    inputs, kernel = torch.randn(1, 1, 67, 41, 16), random_kernel(24, 16, 1, 3, 3)
    before, results = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            found = np.empty((1, 1, 67, 41, 24), np.float32)
            TiledConvolution([[kernel]], plane(USUAL), Workers())(inputs.numpy(), Written(found))
            results.append(found)
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(results[0], results[1])


def test_workers_leave_other_threads_alone() -> None:
    before, counts = torch.get_num_threads(), []
    workers = Workers()
    workers.each(range(8), lambda _: counts.append(torch.get_num_threads()))
    assert set(counts) == {1}
    other = threading.Thread(target=lambda: counts.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert counts[-1] == torch.get_num_threads() == workers.count == before


def test_errors_of_a_task_reach_the_caller(workers: Workers) -> None:
    with pytest.raises(ZeroDivisionError):
        workers.each(range(3), lambda item: 1 / item)


def small_networks() -> RenderingNetworks:
    networks = RenderingNetworks(SMALL).eval().requires_grad_(False)
    for name, values in networks.state_dict().items():
        if values.ndim >= 2:
            values.normal_(0, (2 / values[0].numel()) ** 0.5)
        elif name.endswith("running_var") or ("norm" in name and name.endswith(".weight")):
            values.normal_().abs_().mul_(0.3).add_(1)
        elif values.is_floating_point():
            values.normal_(0, 0.2)
    return networks


def test_small_networks_are_the_same() -> None:
    """Two frames of an oblong picture; key points up to the borders and beyond.

    Random weights make some networks ten times as sensitive to rounding as others: what counts is
    how far plain float32 convolutions are from float64.
    """
    networks = small_networks()
    plain, single = deepcopy(networks).double(), deepcopy(networks)
    picture = torch.rand(1, 3, 128, 96)
    source, driving = (2.4 * torch.rand(3, 21, 3) - 1.2).split((1, 2))
    accelerate_for_cpu(networks)
    frames = []
    for some, dtype in (
        (networks, torch.float32),
        (plain, torch.float64),
        (networks, torch.float32),
        (single, torch.float32),
    ):
        prepared = some.warping.prepare(some.appearance(picture.to(dtype)), source.to(dtype))
        warped = some.warping(prepared, driving.to(dtype))
        frames.append((*warped, some.generator(warped.features)))
    for found, expected, again, unaccelerated in zip(*frames, strict=True):
        assert distance(found, expected) < 3 * distance(unaccelerated, expected) + 1e-6
        assert torch.equal(found, again)  # nothing is left over from the frames before
