"""Weights for networks of torch, and torch's networks to files.

See :mod:`moda.weights.motion_files` and :mod:`moda.weights.files` for what the files are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from moda.config import ModelConfig
from moda.errors import CheckpointError
from moda.motion.model import MotionTransformer
from moda.motion.variants.building import build_model, upgraded_weights
from moda.strict_json import to_json
from moda.structures import MotionSpace
from moda.weights.files import (
    FORMAT_VERSION,
    Arrays,
    digest_of,
    read_verified,
    require_same_tensors,
    strings_of,
    write_arrays,
)
from moda.weights.motion_files import (
    HEADER_KEYS,
    MotionFile,
    read_motion_file,
    require_same_motion_size,
)
from moda.weights.spaces import space_arrays, space_header

NETWORK_HEADER_KEYS = ("kind", "config", "metadata", "format_version")


class Checkpoint(NamedTuple):
    """What :func:`load_checkpoint` reads; the model is in evaluation mode."""

    model: MotionTransformer
    space: MotionSpace
    config: ModelConfig
    metadata: dict[str, str]


class NetworkWeights(NamedTuple):
    """What :func:`read_network_weights` reads."""

    weights: dict[str, Tensor]
    config: str
    metadata: dict[str, str]


def save_checkpoint(
    path: str | Path,
    model: MotionTransformer,
    space: MotionSpace,
    metadata: Mapping[str, str] | None = None,
    *,
    config: ModelConfig | None = None,
) -> None:
    """Write a checkpoint, whole or not at all.

    ``config`` adds a name and the way of sampling; without it the name is that of the file and
    sampling is the default. Raises :class:`CheckpointError` if the parts don't belong together,
    :class:`OutputError` if the file cannot be written.
    """
    path = Path(path)
    config = config or ModelConfig(name=path.stem, motion=model.config)
    if config.motion != model.config:
        raise CheckpointError(f"configuration {config.name!r} is not that of the model")
    require_same_motion_size(config, space)
    weights = model.state_dict()
    arrays: Arrays = {
        f"model.{key}": (value.float() if value.is_floating_point() else value).cpu().numpy()
        for key, value in weights.items()
    }
    arrays |= {f"space.{key}": value for key, value in space_arrays(space).items()}
    header = {
        "config": to_json(config),
        "space": space_header(space),
        "metadata": json.dumps(dict(metadata or {})),
        "format_version": FORMAT_VERSION,
    }
    write_arrays(path, arrays, header | {"sha256": digest_of(arrays, header, HEADER_KEYS)})


def load_checkpoint(
    name_or_path: str | Path, device: torch.device | str = "cpu", *, verify: bool = True
) -> Checkpoint:
    """Read a built-in checkpoint by name, or a file.

    Every missing, unexpected or mis-shaped tensor is refused by name, and the SHA-256 must match
    (``verify=False`` skips only that). Raises :class:`CheckpointError`.
    """
    return checkpoint_of(read_motion_file(name_or_path, verify=verify), device)


def checkpoint_of(file: MotionFile, device: torch.device | str = "cpu") -> Checkpoint:
    """What was read, with a network of torch. Raises as :func:`load_checkpoint`."""
    with WithoutValues():
        model = build_model(file.config.motion).to("meta")
    load_weights(model, upgraded_weights(file.config.motion, _tensors(file.weights)), device)
    return Checkpoint(model.eval(), file.space, file.config, file.metadata)


def save_network_weights(
    path: str | Path,
    kind: str,
    weights: Mapping[str, Tensor],
    *,
    config: str = "{}",
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write the weights of a network that is not a motion model, whole or not at all.

    ``kind`` says which network it is. Raises :class:`OutputError` if the file cannot be written.
    """
    arrays: Arrays = {key: value.detach().cpu().numpy() for key, value in weights.items()}
    header = {
        "kind": kind,
        "config": config,
        "metadata": json.dumps(dict(metadata or {})),
        "format_version": FORMAT_VERSION,
    }
    write_arrays(
        Path(path), arrays, header | {"sha256": digest_of(arrays, header, NETWORK_HEADER_KEYS)}
    )


def read_network_weights(path: str | Path, kind: str, *, verify: bool = True) -> NetworkWeights:
    """Read what :func:`save_network_weights` wrote.

    The file must be of this kind, and its SHA-256 must match (``verify=False`` skips only that).
    Whether the tensors fit the network is for the caller to check. Raises :class:`CheckpointError`.
    """
    path = Path(path)
    arrays, header = read_verified(path, NETWORK_HEADER_KEYS, verify)
    if header["kind"] != kind:
        raise CheckpointError(f"{path} holds {header['kind']!r}, expected {kind!r}")
    return NetworkWeights(_tensors(arrays), header["config"], strings_of(header["metadata"], path))


class WithoutValues(TorchFunctionMode):
    """Networks that are built meanwhile have no random values, as they are given weights anyway.

    Drawing them on the ``meta`` device would import torch's compiler, which takes seconds.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return (*args, *kwargs.values())[0]
        return (torch.empty if func is torch.randn else func)(*args, **kwargs)


def load_weights(
    network: nn.Module, weights: Mapping[str, Tensor], device: torch.device | str = "cpu"
) -> None:
    """Load weights into a network and move it to ``device``.

    A network on the ``meta`` device takes over the tensors themselves; into any other they are
    copied. Raises :class:`CheckpointError` naming every missing, unexpected or mis-shaped tensor.
    """
    expected = network.state_dict()
    require_same_tensors(weights, expected, "weights")
    if any(value.is_meta for value in expected.values()):
        network.load_state_dict(dict(weights), assign=True)
        network.to(device)
    else:
        network.to(device)
        network.load_state_dict(dict(weights))


def _tensors(arrays: Arrays) -> dict[str, Tensor]:
    """Copies aligned for computing; ``arrays`` is emptied, so that no tensor is held twice."""
    return {key: torch.from_numpy(arrays.pop(key)).clone() for key in list(arrays)}
