"""Recorded inputs and weights of the published networks, by the rule of the golden data.

The golden recordings were made without any trained weights: every weight follows from the name of
its network, its key in the official state dict and its shape.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from moda.rendering.neural.generator import resolve_spectral_norm
from moda.rendering.neural.networks import RenderingNetworks

DAMPED_PARTS = ("mlp_gamma", "mlp_beta", "conv_img", "dense_motion_network.mask")
UNSCALED_ENDINGS = (
    "embedding_table.weight",
    "null_audio_feat",
    "null_motion_feat",
    "masked_spec_embed",
    "original1",
)
SPECTRAL_VECTORS = ("weight_u", "weight_v")


def noise(name: str, *shape: int) -> torch.Tensor:
    """The recorded inputs: standard normal numbers that depend on the name and shape only."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    numbers = np.random.Generator(np.random.PCG64(seed)).standard_normal(shape)
    return torch.from_numpy(numbers.astype(np.float32))


def recorded_picture() -> torch.Tensor:
    """(1, 3, 256, 256) in 0..1: the smooth picture that the recordings start with."""
    low, middle = (
        functional.interpolate(
            noise(f"input/lp/image/{name}", 1, 3, size, size),
            size=(256, 256),
            mode="bilinear",
            align_corners=True,
        )
        for name, size in (("low", 8), ("mid", 32))
    )
    return (1.5 * (low + 0.3 * middle)).sigmoid()


def fill(network: str, shapes: Mapping[str, Sequence[int]]) -> dict[str, torch.Tensor]:
    """State dict of a network, from the keys and shapes of its official file."""
    return {key: _filled(network, key, shapes) for key in shapes}


def official_generator_shapes(shapes: Mapping[str, Sequence[int]]) -> dict[str, Sequence[int]]:
    """Keys and shapes of the generator's official file, spectral norms as three tensors."""
    official: dict[str, Sequence[int]] = {}
    for key, shape in shapes.items():
        layer, _, part = key.rpartition(".")
        if part == "weight" and layer.endswith((".conv_0", ".conv_1", ".conv_s")):
            official[f"{layer}.weight_orig"] = shape
            official[f"{layer}.weight_u"] = shape[:1]
            official[f"{layer}.weight_v"] = (math.prod(shape[1:]),)
        else:
            official[key] = shape
    return official


def load_filled(network: str, module: nn.Module) -> None:
    """Give a module of the published sizes, made on the meta device, its weights by the rule."""
    shapes = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    if network == "spade_generator":
        state = resolve_spectral_norm(fill(network, official_generator_shapes(shapes)))
    else:
        state = fill(network, shapes)
    module.load_state_dict(state, assign=True)
    module.eval().requires_grad_(False)


def filled_rendering_networks() -> RenderingNetworks:
    """The networks of the neural renderer at full size, 0.4 GB."""
    with torch.device("meta"):
        networks = RenderingNetworks()
    load_filled("appearance_feature_extractor", networks.appearance)
    load_filled("warping_module", networks.warping)
    load_filled("spade_generator", networks.generator)
    for name in ("stitching", "lip", "eye"):
        load_filled(name, networks.get_submodule(name))
    return networks


def _filled(network: str, key: str, shapes: Mapping[str, Sequence[int]]) -> torch.Tensor:
    shape = shapes[key]
    part = key.rpartition(".")[2]
    if part == "num_batches_tracked":
        return torch.zeros((), dtype=torch.int64)
    if part in SPECTRAL_VECTORS:
        return _spectral_vectors(network, key.rpartition(".")[0], shapes)[part]
    values = noise(f"{network}/{key}", *shape)
    if key.endswith(UNSCALED_ENDINGS):
        return values
    if part in ("weight", "weight_orig"):
        return _filled_weight(key, values)
    scaled = {
        "bias": lambda: 0.05 * values,
        "gamma": lambda: 0.3 * values,
        "beta": lambda: 0.05 * values,
        "running_mean": lambda: 0.1 * values,
        "running_var": lambda: 1 + 0.1 * values.abs(),
        "original0": lambda: 2.5 * (1 + 0.1 * values),
    }
    return scaled[part]()


def _filled_weight(key: str, values: torch.Tensor) -> torch.Tensor:
    if values.ndim == 1:
        return 1 + 0.1 * values
    gain = 1.0 if values.ndim == 2 else 2.0
    factor = math.sqrt(gain / math.prod(values.shape[1:]))
    if any(part in key for part in DAMPED_PARTS):
        factor *= 0.3
    return values * float(np.float32(factor))


def _spectral_vectors(
    network: str, layer: str, shapes: Mapping[str, Sequence[int]]
) -> dict[str, torch.Tensor]:
    """One step of the power iteration from a drawn ``u``, in float64."""
    matrix = _filled(network, f"{layer}.weight_orig", shapes).double().flatten(1)
    u = noise(f"{network}/{layer}.weight_u", *shapes[f"{layer}.weight_u"]).double()
    u = u / u.norm()
    v = matrix.T @ u
    v = v / v.norm()
    u = matrix @ v
    u = u / u.norm()
    return {"weight_u": u.float(), "weight_v": v.float()}
