"""LivePortrait's networks at full size against recordings, and small ones against plain algebra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moda.errors import CheckpointError
from moda.rendering.neural.cpu.acceleration import accelerate_for_cpu
from moda.rendering.neural.cpu.generator import CpuGenerator
from moda.rendering.neural.cpu.warping import CpuWarping
from moda.rendering.neural.generator import SpadeBlock, SpadeGenerator, resolve_spectral_norm
from moda.rendering.neural.layers import RenderingConfig
from moda.rendering.neural.networks import RenderingNetworks
from moda.rendering.neural.optimising import optimise
from moda.rendering.neural.warping import (
    SingleChannelConvolution,
    Warped,
    WarpSource,
    heat_maps,
    identity_grid,
    sample_volume,
    shifted_volumes,
)
from published_weights import (
    fill,
    filled_rendering_networks,
    noise,
    official_generator_shapes,
    recorded_picture,
)

GOLDEN = Path(__file__).parents[2] / "data" / "published" / "liveportrait_nets.npz"
LIMIT = 1e-4
PICTURE_LIMIT = 5e-4
"""For the warping's features and the generator's picture."""
STAGE_LIMIT = 2e-3
"""For the generator's inner features, which reach 35."""

SMALL = RenderingConfig(
    picture_channels=(4, 6, 8),
    volume_channels=4,
    volume_depth=3,
    num_residual_blocks=2,
    compressed_channels=2,
    hourglass_channels=(3, 4, 5, 6),
    feature_channels=6,
    generator_channels=(8, 6, 4),
    spade_hidden=5,
)

Arrays = dict[str, Tensor]


@pytest.fixture(scope="module", autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def golden() -> Arrays:
    with np.load(GOLDEN) as file:
        return {key: torch.from_numpy(file[key]) for key in file}


@pytest.fixture(scope="module")
def networks() -> RenderingNetworks:
    """No test may change it."""
    return filled_rendering_networks()


def small_networks(seed: int = 0) -> RenderingNetworks:
    """A few thousand weights in float64, nothing at its start."""
    networks = RenderingNetworks(SMALL).double().eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, values in networks.state_dict().items():
        if not values.is_floating_point():
            continue
        numbers = torch.randn(values.shape, generator=generator, dtype=values.dtype)
        if values.ndim >= 2:
            values.copy_(numbers * (2 / values[0].numel()) ** 0.5)
        elif name.endswith("running_var") or ("norm" in name and name.endswith(".weight")):
            values.copy_(1 + 0.3 * numbers.abs())
        else:
            values.copy_(0.2 * numbers)
    return networks


@contextmanager
def watched(**parts: nn.Module) -> Iterator[Arrays]:
    """Collects what the named parts give, and as ``<name>_in`` what they are given."""
    seen: Arrays = {}

    def watch(name: str, part: nn.Module) -> torch.utils.hooks.RemovableHandle:
        return part.register_forward_hook(
            lambda module, inputs, output: seen.update({name: output, f"{name}_in": inputs[0]})
        )

    handles = [watch(name, part) for name, part in parts.items()]
    yield seen
    for handle in handles:
        handle.remove()


def distance(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max())


@pytest.fixture(scope="module")
def appearance(networks: RenderingNetworks, golden: Arrays) -> Tensor:
    """The recorded volume, after its own test."""
    part = networks.appearance
    picture = recorded_picture()
    assert distance(picture[:, :, ::16, ::16], golden["image_slice"]) < 1e-6
    with watched(first=part.first, second=part.second) as seen:
        appearance: Tensor = part(picture)
    assert distance(seen["first"][:, ::8, ::16, ::16], golden["F/first_slice"]) < LIMIT
    assert distance(seen["second"][:, ::16, ::8, ::8], golden["F/second_slice"]) < LIMIT
    return appearance


@pytest.fixture(scope="module")
def source(networks: RenderingNetworks, appearance: Tensor, golden: Arrays) -> WarpSource:
    return networks.warping.prepare(appearance, golden["kp_source"])


@pytest.fixture(scope="module")
def warping(
    networks: RenderingNetworks, source: WarpSource, golden: Arrays
) -> tuple[Warped, Arrays]:
    """Two recorded frames and what happens inside."""
    part = networks.warping
    dense = part.dense_motion_network
    with watched(hourglass=dense.hourglass, mask=dense.mask, third=part.third) as seen:
        warped = part(source, golden["kp_driving"])
    return warped, seen


@pytest.fixture(scope="module")
def drawing(networks: RenderingNetworks, warping: tuple[Warped, Arrays]) -> tuple[Tensor, Arrays]:
    """The pictures of the two frames and what happens inside."""
    generator = networks.generator
    names = ("fc", "G_middle_0", "G_middle_5", "up_0", "up_1")
    with watched(**{name: generator.get_submodule(name) for name in names}) as seen:
        picture: Tensor = generator(warping[0].features)
    return picture, {name: seen[name] for name in names}


def test_appearance(appearance: Tensor, golden: Arrays) -> None:
    assert distance(appearance[:, ::4, ::4, ::4, ::4], golden["F/slice"]) < LIMIT
    assert distance(appearance.mean((0, 2, 3, 4)), golden["F/mean_c"]) < LIMIT
    assert distance(appearance.std((0, 2, 3, 4)), golden["F/std_c"]) < LIMIT


def test_recorded_keypoints_are_their_rule(golden: Arrays) -> None:
    source = 0.35 * noise("input/lp/kp_source", 1, 21, 3)
    driving = source + 0.06 * noise("input/lp/kp_driving_delta", 2, 21, 3)
    assert distance(source, golden["kp_source"]) == 0
    assert distance(driving, golden["kp_driving"]) < 1e-7


def test_warping(warping: tuple[Warped, Arrays], golden: Arrays) -> None:
    warped, seen = warping
    found = {
        "hg_in_slice": seen["hourglass_in"][:, ::3, ::8, ::8, ::8],
        "hg_out_slice": seen["hourglass"][:, ::4, ::8, ::8, ::8],
        "mask_slice": seen["mask"].softmax(dim=1)[:, :, ::8, ::8, ::8],
        "warped_slice": seen["third_in"][:, ::32, ::8, ::8],
        "third_slice": seen["third"][:, ::16, ::8, ::8],
        "deformation_slice": warped.deformation[:, ::4, ::4, ::4],
        "deformation_mean": warped.deformation.mean((1, 2, 3)),
        "deformation_std": warped.deformation.std((1, 2, 3)),
        "occlusion_map": warped.occlusion,
        "out_slice": warped.features[:, ::8, ::4, ::4],
        "out_mean_c": warped.features.mean((2, 3)),
        "out_std_c": warped.features.std((2, 3)),
    }
    expected = {key[2:]: value for key, value in golden.items() if key.startswith("W/")}
    assert set(found) == set(expected)
    for name, value in found.items():
        limit = PICTURE_LIMIT if name.startswith("out") else LIMIT
        assert distance(value, expected[name]) < limit, name


def test_picture(drawing: tuple[Tensor, Arrays], golden: Arrays) -> None:
    picture, seen = drawing
    for name, value in seen.items():
        channels, step = value.shape[1] // 16, value.shape[-1] // 16
        found = value[:, ::channels, ::step, ::step]
        assert distance(found, golden[f"G/{name}_slice"]) < STAGE_LIMIT, name
    assert distance(picture[:, :, ::4, ::4], golden["G/out_slice"]) < PICTURE_LIMIT
    assert distance(picture.mean((2, 3)), golden["G/out_mean"]) < PICTURE_LIMIT
    assert distance(picture.std((2, 3)), golden["G/out_std"]) < PICTURE_LIMIT
    bytes_ = (255 * picture[:, :, 1::8, 2::8]).to(torch.uint8).movedim(1, -1)
    assert distance(bytes_.int(), golden["G/uint8_slice"].int()) <= 1


def test_small_networks_of_the_keypoints(networks: RenderingNetworks, golden: Arrays) -> None:
    source = 0.35 * noise("input/lp/stitch_source", 2, 21, 3)
    driving = 0.35 * noise("input/lp/stitch_driving", 2, 21, 3)
    assert distance(networks.stitching(source, driving), golden["S/delta"]) < 1e-6
    lips = networks.lip_offset(source, noise("input/lp/lip_ratio", 2, 2).abs())
    assert distance(lips.flatten(1), golden["S/lip"]) < 1e-6
    eyes = networks.eye_offset(source, noise("input/lp/eye_ratio", 2, 3).abs())
    assert distance(eyes.flatten(1), golden["S/eye"]) < 1e-6


def test_stitching_without_correction_changes_nothing() -> None:
    networks = small_networks()
    keypoints = torch.randn(3, 21, 3, dtype=torch.float64)
    last = networks.stitching.mlp[-1]
    last.weight.zero_()
    last.bias.zero_()
    assert torch.equal(networks.stitch(keypoints[:1], keypoints), keypoints)
    last.bias[-2:] = torch.tensor([0.5, -0.25])
    shift = networks.stitch(keypoints[:1], keypoints) - keypoints
    expected = torch.tensor([0.5, -0.25, 0.0], dtype=torch.float64).expand(3, 21, 3)
    torch.testing.assert_close(shift, expected)


def test_heat_is_a_gaussian_around_each_keypoint() -> None:
    keypoints = torch.rand(2, 21, 3, dtype=torch.float64) - 0.5
    grid = identity_grid((4, 6, 8), like=keypoints)
    squares = (grid - keypoints[:, :, None, None, None]).square().sum(-1)
    torch.testing.assert_close(heat_maps(keypoints, (4, 6, 8)), torch.exp(-squares / 0.02))


def test_shifted_volumes_are_sampled_ones() -> None:
    """Separable shifts against sampling voxel by voxel, far beyond the border too."""
    volume = torch.randn(1, 2, 4, 6, 8, dtype=torch.float64)
    shifts = 0.7 * torch.randn(2, 21, 3, dtype=torch.float64)
    positions = identity_grid((4, 6, 8), like=volume) + shifts[:, :, None, None, None]
    sampled = sample_volume(volume.expand(42, -1, -1, -1, -1), positions.flatten(0, 1))
    shifted = shifted_volumes(volume, shifts)
    torch.testing.assert_close(shifted.flatten(0, 1), sampled)


def test_single_channel_convolution_is_the_convolution() -> None:
    conv = SingleChannelConvolution(5, kernel_size=7)
    features = torch.randn(2, 5, 9, 4)
    expected = F.conv2d(features, conv.weight, conv.bias, padding=3)
    torch.testing.assert_close(conv(features), expected)


def test_grid_and_sampling_count_the_border_differently() -> None:
    """The published convention: position 1 is the last voxel's centre, but its outer face here."""
    volume = torch.arange(4.0).view(1, 1, 1, 1, 4).expand(1, 1, 2, 2, 4)
    grid = identity_grid((2, 2, 4), like=volume)
    assert grid[0, 0, 0].tolist() == [-1, -1, -1]
    assert grid[-1, -1, -1].tolist() == [1, 1, 1]
    x = sample_volume(volume, 0 * grid[None] + grid[None] * torch.tensor([1.0, 0, 0]))[0, 0, 0, 0]
    inside = torch.tensor([0.0, 5 / 6, 13 / 6, 1.5])
    torch.testing.assert_close(x, inside)


def test_still_keypoints_bend_nothing() -> None:
    """Where no key point moves, every proposal is the identity, however they are mixed."""
    networks = small_networks()
    appearance = torch.randn(1, 4, 3, 8, 8, dtype=torch.float64)
    keypoints = torch.rand(1, 21, 3, dtype=torch.float64) - 0.5
    warped = networks.warping(networks.warping.prepare(appearance, keypoints), keypoints)
    torch.testing.assert_close(warped.deformation[0], identity_grid((3, 8, 8), like=appearance))


def test_frames_of_a_batch_are_independent() -> None:
    networks = small_networks()
    appearance = torch.randn(1, 4, 3, 8, 8, dtype=torch.float64)
    source = networks.warping.prepare(appearance, torch.rand(1, 21, 3, dtype=torch.float64) - 0.5)
    driving = torch.rand(3, 21, 3, dtype=torch.float64) - 0.5
    together = networks.generator(networks.warping(source, driving).features)
    alone = networks.generator(networks.warping(source, driving[1:2]).features)
    torch.testing.assert_close(together[1:2], alone)
    assert together.shape == (3, 3, 64, 64)


def test_optimised_small_networks_are_the_same_to_the_last_digit() -> None:
    """In float64, so that a tap lost at a border cannot hide; odd sizes, two frames."""
    plain, optimised = small_networks(), small_networks()
    optimise(optimised, "bfloat16")
    optimise(optimised, "bfloat16")  # nothing is left to do
    picture = torch.rand(1, 3, 64, 32, dtype=torch.float64)
    source, driving = torch.rand(3, 21, 3, dtype=torch.float64).sub(0.5).split((1, 2))
    frames = []
    for networks in (plain, optimised):
        prepared = networks.warping.prepare(networks.appearance(picture), source)
        warped = networks.warping(prepared, driving)
        frames.append((prepared, warped, networks.generator(warped.features[..., :9, :5])))
    torch.testing.assert_close(frames[1], frames[0], rtol=1e-11, atol=1e-11)
    assert not [part for part in optimised.generator.modules() if isinstance(part, SpadeBlock)]
    norms = [part for part in optimised.modules() if isinstance(part, nn.BatchNorm3d)]
    assert len(norms) == SMALL.num_residual_blocks


def test_a_cpu_in_float32_gets_its_own_networks_and_nothing_else_does() -> None:
    fast, merged = small_networks().float(), small_networks().float()
    optimise(fast)
    optimise(merged, "bfloat16")
    assert isinstance(fast.generator, CpuGenerator)
    assert isinstance(fast.warping, CpuWarping)
    assert isinstance(merged.generator, SpadeGenerator)


def test_optimised_networks_at_full_size(
    networks: RenderingNetworks,
    source: WarpSource,
    warping: tuple[Warped, Arrays],
    drawing: tuple[Tensor, Arrays],
    golden: Arrays,
) -> None:
    optimised = deepcopy(networks)
    optimise(optimised, "bfloat16")
    driving = golden["kp_driving"][1:]
    prepared = optimised.warping.prepare(optimised.appearance(recorded_picture()), source.keypoints)
    assert distance(prepared.appearance, source.appearance) < LIMIT
    warped = optimised.warping(prepared, driving)
    assert distance(warped.deformation, warping[0].deformation[1:]) < LIMIT
    assert distance(warped.features, warping[0].features[1:]) < PICTURE_LIMIT
    picture = optimised.generator(warped.features)
    assert distance(picture, drawing[0][1:]) < PICTURE_LIMIT
    assert distance(picture[:, :, ::4, ::4], golden["G/out_slice"][1:]) < PICTURE_LIMIT


def test_networks_for_cpus_at_full_size(
    networks: RenderingNetworks, source: WarpSource, golden: Arrays
) -> None:
    """Both recorded frames, each within the limits of the recording."""
    fast = deepcopy(networks)
    accelerate_for_cpu(fast)
    prepared = fast.warping.prepare(source.appearance, source.keypoints)
    warped = fast.warping(prepared, golden["kp_driving"])
    assert distance(warped.deformation[:, ::4, ::4, ::4], golden["W/deformation_slice"]) < LIMIT
    assert distance(warped.occlusion, golden["W/occlusion_map"]) < LIMIT
    assert distance(warped.features[:, ::8, ::4, ::4], golden["W/out_slice"]) < PICTURE_LIMIT
    picture = fast.generator(warped.features)
    assert distance(picture[:, :, ::4, ::4], golden["G/out_slice"]) < PICTURE_LIMIT
    levels = (picture.clamp(0, 1) * 255).to(torch.uint8)[:, :, 1::8, 2::8].movedim(1, -1)
    assert (levels.int() - golden["G/uint8_slice"].int()).abs().max() <= 1


def test_spectral_norm_is_that_of_torch() -> None:
    layers = nn.ModuleDict({"conv_0": nn.Conv2d(4, 6, 3), "norm": nn.BatchNorm2d(6)})
    nn.utils.spectral_norm(layers["conv_0"])
    inputs = torch.randn(1, 4, 5, 5)
    layers["conv_0"](inputs)  # a step of the power iteration
    layers.eval()
    resolved = resolve_spectral_norm(layers.state_dict())
    assert set(resolved) == set(layers.state_dict()) - {
        f"conv_0.weight_{part}" for part in ("orig", "u", "v")
    } | {"conv_0.weight"}
    found = F.conv2d(inputs, resolved["conv_0.weight"], resolved["conv_0.bias"])
    torch.testing.assert_close(found, layers["conv_0"](inputs))


@pytest.mark.parametrize("part", ["weight_orig", "weight_u", "weight_v"])
def test_incomplete_spectral_norms_are_refused(part: str) -> None:
    tiny = RenderingConfig(feature_channels=4, generator_channels=(6, 4, 3), spade_hidden=2)
    with torch.device("meta"):
        shapes = {key: tensor.shape for key, tensor in SpadeGenerator(tiny).state_dict().items()}
    state = fill("spade_generator", official_generator_shapes(shapes))
    del state[f"up_0.conv_s.{part}"]
    with pytest.raises(CheckpointError, match=rf"up_0\.conv_s\.{part} is missing"):
        resolve_spectral_norm(state)
