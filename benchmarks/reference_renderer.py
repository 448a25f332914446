"""The published renderer in its published order of computation: the baseline of the benchmarks.

Per frame: batch norms as layers of their own, spectral norms divided on every call, the constants
of the portrait computed again, key points one frame at a time, every convolution of the SPADE norms
at full resolution. Plain functions of the state dicts of the released files; nothing here is shared
with the package, so that the benchmark also compares two implementations.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

State = Mapping[str, Tensor]

DRIVEN_AXES = np.zeros((21, 3), np.bool_)
DRIVEN_AXES[[1, 2, 6, *range(11, 21)]] = True
DRIVEN_AXES[[3, 4, 9], 1] = True
DRIVEN_AXES[[5, 8, 9], 2] = True
EYE_OFFSETS = ((11, 0.0025), (15, 0.0025), (13, 0.00075), (16, 0.00075))


def rotation(pitch: float, yaw: float, roll: float) -> Tensor:
    """(1, 3, 3) for row vectors, from degrees."""
    x, y, z = torch.tensor([pitch, yaw, roll]).mul(np.pi / 180).unbind()
    one, zero = torch.ones(()), torch.zeros(())
    around_x = torch.stack([one, zero, zero, zero, x.cos(), -x.sin(), zero, x.sin(), x.cos()])
    around_y = torch.stack([y.cos(), zero, y.sin(), zero, one, zero, -y.sin(), zero, y.cos()])
    around_z = torch.stack([z.cos(), -z.sin(), zero, z.sin(), z.cos(), zero, zero, zero, one])
    turns = (around_z.view(3, 3), around_y.view(3, 3), around_x.view(3, 3))
    return (turns[0] @ turns[1] @ turns[2]).T[None]


def drive(
    canonical: NDArray[np.float32],
    source_motion: NDArray[np.float32],
    motion: NDArray[np.float32],
    stitching: State,
) -> tuple[Tensor, list[Tensor]]:
    """Source (1, 21, 3) and, frame by frame, driving key points (1, 21, 3) of a clip.

    ``canonical`` (21, 3), ``source_motion`` (70,), ``motion`` (T, 70).
    """
    keypoints = torch.tensor(canonical)[None]
    expression = torch.tensor(source_motion[:63].reshape(1, 21, 3))
    scale, shift = float(source_motion[63]), torch.tensor(source_motion[64:67])
    shift[2] = 0
    turned = keypoints @ rotation(*(float(angle) for angle in source_motion[67:]))
    source = scale * (turned + expression) + shift
    frames = []
    for row in motion:
        wanted = torch.tensor(row[:63].reshape(1, 21, 3))
        for index, offset in EYE_OFFSETS:
            wanted[:, index, 1] += offset
        delta = torch.where(torch.tensor(DRIVEN_AXES), wanted, expression)
        shift = torch.tensor(row[64:67])
        shift[2] = 0
        turned = keypoints @ rotation(*(float(angle) for angle in row[67:]))
        driving = scale * (turned + delta) + shift
        frames.append(stitch(stitching, source, driving))
    return source, frames


def stitch(state: State, source: Tensor, driving: Tensor) -> Tensor:
    """Driving key points (1, 21, 3) corrected."""
    values = torch.cat((source.flatten(1), driving.flatten(1)), dim=1)
    for index in (0, 2, 4, 6):
        name = f"mlp.{index}"
        values = F.linear(values, state[f"{name}.weight"], state[f"{name}.bias"])
        values = F.relu(values) if index < 6 else values
    moved = driving + values[:, :63].view(-1, 21, 3)
    moved[..., :2] += values[:, None, 63:]
    return moved


def batch_norm(state: State, name: str, features: Tensor) -> Tensor:
    mean, variance, weight, bias = (
        state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return F.batch_norm(features, mean, variance, weight, bias)


def convolve_3d(state: State, name: str, volume: Tensor, padding: int = 1) -> Tensor:
    return F.conv3d(volume, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding)


def convolve_2d(state: State, name: str, features: Tensor, padding: int = 1) -> Tensor:
    return F.conv2d(features, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding)


def block_3d(state: State, name: str, volume: Tensor) -> Tensor:
    return F.relu(batch_norm(state, f"{name}.norm", convolve_3d(state, f"{name}.conv", volume)))


def grid_of(volume: Tensor) -> Tensor:
    depth, height, width = volume.shape[-3:]
    z, y, x = (2 * torch.arange(n).float() / (n - 1) - 1 for n in (depth, height, width))
    return torch.stack(torch.meshgrid(z, y, x, indexing="ij")[::-1], dim=-1)


def heat_of(grid: Tensor, keypoints: Tensor) -> Tensor:
    distance = grid - keypoints.view(-1, 21, 1, 1, 1, 3)
    return torch.exp(-0.5 * distance.square().sum(-1) / 0.01)


def hourglass(state: State, name: str, volume: Tensor) -> Tensor:
    volumes = [volume]
    for index in range(5):
        block = f"{name}.encoder.down_blocks.{index}"
        volumes.append(F.avg_pool3d(block_3d(state, block, volumes[-1]), (1, 2, 2)))
    volume = volumes.pop()
    for index in range(5):
        enlarged = F.interpolate(volume, scale_factor=(1, 2, 2))
        volume = block_3d(state, f"{name}.decoder.up_blocks.{index}", enlarged)
        volume = torch.cat((volume, volumes.pop()), dim=1)
    return block_3d(state, f"{name}.decoder", volume)


def dense_motion(
    state: State, appearance: Tensor, source: Tensor, driving: Tensor
) -> tuple[Tensor, Tensor]:
    """Deformation (B, D, H, W, 3) and occlusion (B, 1, H, W)."""
    name = "dense_motion_network"
    batch, _, depth, height, width = appearance.shape
    compressed = convolve_3d(state, f"{name}.compress", appearance, padding=0)
    compressed = F.relu(batch_norm(state, f"{name}.norm", compressed))
    grid = grid_of(appearance).expand(batch, 1, -1, -1, -1, -1)
    shifted = grid - driving.view(-1, 21, 1, 1, 1, 3) + source.view(-1, 21, 1, 1, 1, 3)
    fields = torch.cat((grid, shifted), dim=1)
    repeated = compressed[:, None].repeat(1, 22, 1, 1, 1, 1).flatten(0, 1)
    moved = F.grid_sample(repeated, fields.flatten(0, 1), align_corners=False)
    moved = moved.view(batch, 22, -1, depth, height, width)
    heat = heat_of(grid, driving) - heat_of(grid, source)
    heat = torch.cat((torch.zeros_like(heat[:, :1]), heat), dim=1)
    proposals = torch.cat((heat[:, :, None], moved), dim=2).flatten(1, 2)
    decoded = hourglass(state, f"{name}.hourglass", proposals)
    mask = F.softmax(convolve_3d(state, f"{name}.mask", decoded, padding=3), dim=1)
    deformation = (fields.permute(0, 1, 5, 2, 3, 4) * mask[:, :, None]).sum(1)
    flat = decoded.flatten(1, 2)
    occlusion = torch.sigmoid(convolve_2d(state, f"{name}.occlusion", flat, padding=3))
    return deformation.permute(0, 2, 3, 4, 1), occlusion


def warp(state: State, appearance: Tensor, source: Tensor, driving: Tensor) -> Tensor:
    """Network W: features (B, 256, 64, 64) of one frame."""
    deformation, occlusion = dense_motion(state, appearance, source, driving)
    bent = F.grid_sample(appearance, deformation, align_corners=False).flatten(1, 2)
    features = batch_norm(state, "third.norm", convolve_2d(state, "third.conv", bent))
    features = F.leaky_relu(features, 0.01)
    return convolve_2d(state, "fourth", features, padding=0) * occlusion


def spectral_convolution(state: State, name: str, features: Tensor, padding: int = 1) -> Tensor:
    weight = state[f"{name}.weight_orig"]
    spectral = torch.dot(
        state[f"{name}.weight_u"], torch.mv(weight.flatten(1), state[f"{name}.weight_v"])
    )
    return F.conv2d(features, weight / spectral, state.get(f"{name}.bias"), padding=padding)


def spade_norm(state: State, name: str, features: Tensor, layout: Tensor) -> Tensor:
    normalised = F.instance_norm(features)
    layout = F.interpolate(layout, size=features.shape[2:], mode="nearest")
    shared = F.relu(convolve_2d(state, f"{name}.mlp_shared.0", layout))
    gamma = convolve_2d(state, f"{name}.mlp_gamma", shared)
    beta = convolve_2d(state, f"{name}.mlp_beta", shared)
    return normalised * (1 + gamma) + beta


def spade_block(state: State, name: str, features: Tensor, layout: Tensor) -> Tensor:
    shortcut = features
    if f"{name}.conv_s.weight_orig" in state:
        shortcut = spade_norm(state, f"{name}.norm_s", features, layout)
        shortcut = spectral_convolution(state, f"{name}.conv_s", shortcut, padding=0)
    change = features
    for index in (0, 1):
        change = spade_norm(state, f"{name}.norm_{index}", change, layout)
        change = spectral_convolution(state, f"{name}.conv_{index}", F.leaky_relu(change, 0.2))
    return shortcut + change


def draw(state: State, features: Tensor) -> Tensor:
    """Network G: picture (B, 3, 512, 512) in 0..1."""
    layout = features
    drawn = convolve_2d(state, "fc", features)
    for index in range(6):
        drawn = spade_block(state, f"G_middle_{index}", drawn, layout)
    for index in (0, 1):
        drawn = F.interpolate(drawn, scale_factor=2)
        drawn = spade_block(state, f"up_{index}", drawn, layout)
    drawn = convolve_2d(state, "conv_img.0", F.leaky_relu(drawn, 0.2))
    return torch.sigmoid(F.pixel_shuffle(drawn, 2))
