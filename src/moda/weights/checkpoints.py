"""Weights in .safetensors files, checked when they are read.

A checkpoint is a motion model: tensors ``model.*`` and ``space.*``, in the header its configuration
and the description of its motion space. Other networks are files of one kind each, with tensors and
a configuration of their own. Every header has free metadata, a format version, and a SHA-256 of all
of that with the tensors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor, nn

from moda.config import NUM_HEAD_GAINS, ModelConfig
from moda.errors import CheckpointError, ConfigError, OutputError
from moda.files import whole_file
from moda.motion.model import MotionTransformer
from moda.motion.variants.building import build_model, upgraded_weights
from moda.strict_json import from_json, parse_json, to_json
from moda.structures import MotionSpace
from moda.structures.landmarks import NUM_LANDMARKS, NUM_SURFACE

Arrays = dict[str, NDArray[Any]]

FORMAT_VERSION = "1"
ASSETS = Path(__file__).parents[1] / "assets"
BUILT_IN = ("moda-tiny",)
"""Names of the checkpoints inside the package."""
MESH_SPACE = "mesh_space.safetensors"
STATISTICS = ("mean", "std")
SURFACE_TENSORS = ("basis", "canonical_face", "triangles")
OPTIONAL_SPACE_TENSORS: Mapping[str, tuple[str, ...]] = {"neural": (), "mesh": SURFACE_TENSORS}
HEADER_KEYS = ("config", "space", "metadata", "format_version")
NETWORK_HEADER_KEYS = ("kind", "config", "metadata", "format_version")
MAX_GROUP_SIZE = 10_000
MAX_LISTED = 8
"""Names spelled out in an error message."""


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
    _require_same_motion_size(config, space)
    weights = model.state_dict()
    arrays: Arrays = {
        f"model.{key}": (value.float() if value.is_floating_point() else value).cpu().numpy()
        for key, value in weights.items()
    }
    arrays |= {f"space.{key}": value for key, value in _space_arrays(space).items()}
    header = {
        "config": to_json(config),
        "space": _space_header(space),
        "metadata": json.dumps(dict(metadata or {})),
        "format_version": FORMAT_VERSION,
    }
    _write(path, arrays, header | {"sha256": _digest(arrays, header, HEADER_KEYS)})


def load_checkpoint(
    name_or_path: str | Path, device: torch.device | str = "cpu", *, verify: bool = True
) -> Checkpoint:
    """Read a built-in checkpoint by name, or a file.

    Every missing, unexpected or mis-shaped tensor is refused by name, and the SHA-256 must match
    (``verify=False`` skips only that). Raises :class:`CheckpointError`.
    """
    path = _locate(name_or_path)
    arrays, header = _read_verified(path, HEADER_KEYS, verify)
    config = _read_config(header["config"], path)
    metadata = _strings(header["metadata"], path)
    parts = _by_prefix(arrays, path)
    del arrays
    space = _space_from_arrays(parts["space"], header["space"], path)
    _require_same_motion_size(config, space, where=f"{path}: ")
    with torch.device("meta"):
        model = build_model(config.motion)
    load_weights(model, upgraded_weights(config.motion, _tensors(parts["model"])), device)
    return Checkpoint(model.eval(), space, config, metadata)


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
    _write(Path(path), arrays, header | {"sha256": _digest(arrays, header, NETWORK_HEADER_KEYS)})


def read_network_weights(path: str | Path, kind: str, *, verify: bool = True) -> NetworkWeights:
    """Read what :func:`save_network_weights` wrote.

    The file must be of this kind, and its SHA-256 must match (``verify=False`` skips only that).
    Whether the tensors fit the network is for the caller to check. Raises :class:`CheckpointError`.
    """
    path = Path(path)
    arrays, header = _read_verified(path, NETWORK_HEADER_KEYS, verify)
    if header["kind"] != kind:
        raise CheckpointError(f"{path} holds {header['kind']!r}, expected {kind!r}")
    return NetworkWeights(_tensors(arrays), header["config"], _strings(header["metadata"], path))


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


def require_same_tensors(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], what: str
) -> None:
    """Raise :class:`CheckpointError` naming all that is missing, unexpected or of another shape."""
    _require_same_keys(found, expected, what)
    wrong = [
        f"{key} is {tuple(found[key].shape)} {found[key].dtype}, "
        f"expected {tuple(value.shape)} {value.dtype}"
        for key, value in expected.items()
        if (found[key].shape, found[key].dtype) != (value.shape, value.dtype)
    ]
    if wrong:
        raise CheckpointError(f"{what} tensors do not fit; {_list(wrong, '; ')}")


def load_motion_space(path: str | Path | None = None) -> MotionSpace:
    """Read a motion space; the package's own mesh space if no file is given."""
    if path is None and not (ASSETS / MESH_SPACE).exists():
        raise CheckpointError(f"{ASSETS / MESH_SPACE} is missing; reinstall moda-talking-head")
    path = ASSETS / MESH_SPACE if path is None else Path(path)
    arrays, header = _read(path)
    if "space" not in header:
        raise CheckpointError(f"{path}: the header lacks 'space'; this is not a motion space")
    return _space_from_arrays(arrays, header["space"], path)


def save_motion_space(path: str | Path, space: MotionSpace) -> None:
    """Write a motion space by itself, whole or not at all."""
    _write(Path(path), _space_arrays(space), {"space": _space_header(space)})


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


def _space_header(space: MotionSpace) -> str:
    groups = [list(group) for group in space.groups]
    return json.dumps(
        {"name": space.name, "groups": groups, "pose_reference": space.pose_reference}
    )


def _space_arrays(space: MotionSpace) -> Arrays:
    arrays = {key: getattr(space, key) for key in (*STATISTICS, *SURFACE_TENSORS)}
    return {key: value for key, value in arrays.items() if value is not None}


def _space_from_arrays(arrays: Arrays, header: str, where: Path) -> MotionSpace:
    """Check and put together a motion space."""
    try:
        description = parse_json(header)
        name, reference = description["name"], description["pose_reference"]
        groups = tuple((str(group), int(size)) for group, size in description["groups"])
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise CheckpointError(f"{where}: the description of the motion space is damaged") from error
    if name not in tuple(OPTIONAL_SPACE_TENSORS) or reference not in ("rest", "camera"):
        raise CheckpointError(f"{where}: unknown motion space {name!r} ({reference!r})")
    if not all(0 < size <= MAX_GROUP_SIZE for _, size in groups):
        raise CheckpointError(f"{where}: group sizes of the motion space are damaged: {groups}")
    present = [key for key in OPTIONAL_SPACE_TENSORS[name] if key in arrays]
    _require_same_keys(arrays, (*STATISTICS, *present), f"{where}: motion space")
    space = MotionSpace(groups=groups, name=name, pose_reference=reference, **arrays)
    shapes = {"mean": (space.size,), "std": (space.size,), "canonical_face": (NUM_LANDMARKS, 3)}
    for key, value in arrays.items():
        dtype = np.int32 if key == "triangles" else np.float32
        fits = value.shape == shapes.get(key, value.shape) and value.dtype == dtype
        if not fits or (dtype == np.float32 and not np.isfinite(value).all()):
            raise CheckpointError(
                f"{where}: space tensor {key!r} is {value.shape} {value.dtype}, "
                f"expected finite {shapes.get(key, 'values')} {np.dtype(dtype)}"
            )
    if (space.std < 0).any():
        raise CheckpointError(f"{where}: space tensor 'std' has negative values")
    _require_surface_tensors(space, where)
    return space


def _require_surface_tensors(space: MotionSpace, where: Path) -> None:
    """Triangles and basis of a mesh space must address the surface points."""
    triangles = space.triangles
    if triangles is not None and (
        triangles.ndim != 2
        or triangles.shape[1] != 3
        or not ((triangles >= 0) & (triangles < NUM_SURFACE)).all()
    ):
        raise CheckpointError(f"{where}: space tensor 'triangles' must be (N, 3) surface points")
    if space.basis is not None and (
        space.basis.shape[1:] != (NUM_SURFACE, 3) or len(space.basis) > space.expression_size
    ):
        raise CheckpointError(
            f"{where}: space tensor 'basis' is {space.basis.shape}, expected "
            f"(up to {space.expression_size}, {NUM_SURFACE}, 3)"
        )


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
    return f"give the model in it: {_list([str(path) for path in files], ' or ')}"


def _is_checkpoint(path: Path) -> bool:
    try:
        with safe_open(path, framework="numpy") as file:
            header = cast("dict[str, str]", file.metadata() or {})
            return {"config", "space"} <= header.keys()
    except (SafetensorError, OSError):
        return False


def _read(path: Path) -> tuple[Arrays, dict[str, str]]:
    """All tensors and the header of a .safetensors file."""
    try:
        with safe_open(path, framework="numpy") as file:
            header = cast("dict[str, str]", file.metadata() or {})
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path} cannot be read as safetensors (damaged, cut short, or another format): {error}"
        ) from error
    _require_finite(arrays, path)
    return arrays, header


def _require_finite(arrays: Arrays, path: Path) -> None:
    """One number that is none makes every picture black."""
    for key, value in arrays.items():
        is_space = key.startswith("space.")  # is looked at on its own
        if value.dtype.kind == "f" and not is_space and not np.isfinite(value).all():
            raise CheckpointError(
                f"{path}: tensor {key!r} is not finite, it holds NaN or infinite values; get the "
                "weights again"
            )


def _read_verified(
    path: Path, header_keys: tuple[str, ...], verify: bool
) -> tuple[Arrays, dict[str, str]]:
    """All tensors and the header, whose format version and SHA-256 are right."""
    arrays, header = _read(path)
    version = header.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has checkpoint format {version!r}; this version reads {FORMAT_VERSION!r}"
        )
    missing = [key for key in (*header_keys, "sha256") if key not in header]
    if missing:
        raise CheckpointError(f"{path}: the header lacks {_list(missing)}")
    if verify and header["sha256"] != _digest(arrays, header, header_keys):
        raise CheckpointError(f"{path} is damaged: its content does not match its SHA-256")
    return arrays, header


def _write(path: Path, arrays: Arrays, header: dict[str, str]) -> None:
    """Write beside the target, then rename, so that no half-written file ever has its name."""
    arrays = {key: np.asarray(value, order="C") for key, value in arrays.items()}
    _require_finite(arrays, path)
    try:
        with whole_file(path) as part:
            mode = part.stat().st_mode
            save_file(arrays, part, metadata=header)
            part.chmod(mode)  # safetensors leaves files that only their owner can read
    except SafetensorError as error:
        raise OutputError(f"cannot write {path}: {error}") from error


def _digest(arrays: Arrays, header: Mapping[str, str], header_keys: tuple[str, ...]) -> str:
    """SHA-256 over the header fields and over name, type, shape and bytes of every tensor."""
    digest = hashlib.sha256()
    for key in header_keys:
        digest.update(json.dumps([key, header[key]]).encode())
    for key in sorted(arrays):
        value = np.asarray(arrays[key], order="C")
        digest.update(json.dumps([key, str(value.dtype), value.shape]).encode())
        digest.update(value.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _tensors(arrays: Arrays) -> dict[str, Tensor]:
    """Copies aligned for computing; ``arrays`` is emptied, so that no tensor is held twice."""
    return {key: torch.from_numpy(arrays.pop(key)).clone() for key in list(arrays)}


def _by_prefix(arrays: Arrays, path: Path) -> dict[str, Arrays]:
    parts: dict[str, Arrays] = {"model": {}, "space": {}}
    for key, value in arrays.items():
        prefix, _, name = key.partition(".")
        if prefix not in parts:
            raise CheckpointError(f"{path} has an unexpected tensor {key!r}")
        parts[prefix][name] = value
    return parts


def _strings(text: str, where: Path) -> dict[str, str]:
    try:
        values = parse_json(text)
    except ValueError as error:
        raise CheckpointError(f"{where}: the metadata is not JSON: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
        raise CheckpointError(f"{where}: metadata must be an object of strings")
    return values


def _require_same_motion_size(config: ModelConfig, space: MotionSpace, where: str = "") -> None:
    if config.motion.motion_size != space.size:
        raise CheckpointError(
            f"{where}the model has motion size {config.motion.motion_size}, "
            f"the {space.name} motion space has {space.size}"
        )


def _require_same_keys(found: Collection[str], expected: Collection[str], what: str) -> None:
    missing = sorted(set(expected) - set(found))
    unexpected = sorted(set(found) - set(expected))
    faults = [
        f"{kind}: {_list(keys)}"
        for kind, keys in (("missing", missing), ("unexpected", unexpected))
        if keys
    ]
    if faults:
        raise CheckpointError(f"{what} tensors do not fit; {'; '.join(faults)}")


def _list(items: list[str], separator: str = ", ") -> str:
    shown = separator.join(items[:MAX_LISTED])
    return shown if len(items) <= MAX_LISTED else f"{shown} and {len(items) - MAX_LISTED} more"
