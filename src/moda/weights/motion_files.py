"""Motion models in files: tensors ``model.*`` and ``space.*``, in the header the configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple, cast

from safetensors import SafetensorError, safe_open

from moda.config import NUM_HEAD_GAINS, ModelConfig
from moda.errors import CheckpointError, ConfigError
from moda.strict_json import from_json, parse_json
from moda.structures import MotionSpace
from moda.weights.files import ASSETS, Arrays, listed, read_verified, strings_of
from moda.weights.spaces import space_from_arrays

BUILT_IN = ("moda-tiny",)
"""Names of the checkpoints inside the package."""
HEADER_KEYS = ("config", "space", "metadata", "format_version")


class MotionFile(NamedTuple):
    """What a checkpoint holds, before a network is made of it."""

    weights: Arrays
    space: MotionSpace
    config: ModelConfig
    metadata: dict[str, str]


def read_motion_file(name_or_path: str | Path, *, verify: bool = True) -> MotionFile:
    """Read a built-in checkpoint by name, or a file.

    The SHA-256 must match (``verify=False`` skips only that). Whether the weights fit the network
    is for the caller to check. Raises :class:`CheckpointError`.
    """
    path = _locate(name_or_path)
    arrays, header = read_verified(path, HEADER_KEYS, verify)
    config = _read_config(header["config"], path)
    metadata = strings_of(header["metadata"], path)
    parts = _by_prefix(arrays, path)
    space = space_from_arrays(parts["space"], header["space"], path)
    require_same_motion_size(config, space, where=f"{path}: ")
    return MotionFile(parts["model"], space, config, metadata)


def _read_config(text: str, path: Path) -> ModelConfig:
    """The configuration of a checkpoint.

    One gain of the head, as earlier versions wrote it, counts for all its numbers.
    """
    try:
        values = parse_json(text)
        embedder, sampler = values["motion"]["speech_embedder"], values.get("sampler", {})
        reads = embedder.get("num_phones") or embedder.get("voice_spans")
        is_earlier = embedder.get("kind", "conv") == "conv" and bool(reads)
        if "head_gain" in sampler:
            sampler["head_gains"] = [sampler.pop("head_gain")] * NUM_HEAD_GAINS
            text = json.dumps(values)
    except (ValueError, TypeError, KeyError, AttributeError):
        is_earlier = False  # what is wrong with it is said below
    if is_earlier:
        raise CheckpointError(
            f"{path} was made by an earlier version, whose speech embedder recognised phones from "
            "spectra and is gone; train it again with its recipe, or use the release that made it"
        )
    try:
        return from_json(ModelConfig, text)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _locate(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if isinstance(name_or_path, str) and name_or_path in BUILT_IN:
        path = ASSETS / f"{name_or_path}.safetensors"
        if not path.is_file():
            raise CheckpointError(
                f"the built-in checkpoint {name_or_path!r} is not in this installation "
                f"({path} is missing); reinstall moda-talking-head or give a .safetensors file"
            )
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; {_models_in(path)}")
    if not path.is_file():
        raise CheckpointError(
            f"no checkpoint {str(name_or_path)!r}: not a file, and the built-in names are "
            f"{', '.join(BUILT_IN)}"
        )
    return path


def _models_in(folder: Path) -> str:
    """What to give instead of a folder."""
    files = [path for path in sorted(folder.glob("*.safetensors")) if _is_checkpoint(path)]
    if not files:
        return "no model is in it; give the .safetensors file of one"
    return f"give the model in it: {listed([str(path) for path in files], ' or ')}"


def _is_checkpoint(path: Path) -> bool:
    try:
        with safe_open(path, framework="numpy") as file:
            header = cast("dict[str, str]", file.metadata() or {})
            return {"config", "space"} <= header.keys()
    except (SafetensorError, OSError):
        return False


def _by_prefix(arrays: Arrays, path: Path) -> dict[str, Arrays]:
    parts: dict[str, Arrays] = {"model": {}, "space": {}}
    for key, value in arrays.items():
        prefix, _, name = key.partition(".")
        if prefix not in parts:
            raise CheckpointError(f"{path} has an unexpected tensor {key!r}")
        parts[prefix][name] = value
    return parts


def require_same_motion_size(config: ModelConfig, space: MotionSpace, where: str = "") -> None:
    if config.motion.motion_size != space.size:
        raise CheckpointError(
            f"{where}the model has motion size {config.motion.motion_size}, "
            f"the {space.name} motion space has {space.size}"
        )
