"""Motion spaces in files: by themselves, or inside a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from moda.errors import CheckpointError
from moda.strict_json import parse_json
from moda.structures import MotionSpace
from moda.structures.landmarks import NUM_LANDMARKS, NUM_SURFACE
from moda.weights.files import ASSETS, Arrays, read_arrays, require_same_keys, write_arrays

MESH_SPACE = "mesh_space.safetensors"
STATISTICS = ("mean", "std")
SURFACE_TENSORS = ("basis", "canonical_face", "triangles")
OPTIONAL_SPACE_TENSORS: Mapping[str, tuple[str, ...]] = {"neural": (), "mesh": SURFACE_TENSORS}
MAX_GROUP_SIZE = 10_000


def load_motion_space(path: str | Path | None = None) -> MotionSpace:
    """Read a motion space; the package's own mesh space if no file is given."""
    if path is None and not (ASSETS / MESH_SPACE).exists():
        raise CheckpointError(f"{ASSETS / MESH_SPACE} is missing; reinstall moda-talking-head")
    path = ASSETS / MESH_SPACE if path is None else Path(path)
    arrays, header = read_arrays(path)
    if "space" not in header:
        raise CheckpointError(f"{path}: the header lacks 'space'; this is not a motion space")
    return space_from_arrays(arrays, header["space"], path)


def save_motion_space(path: str | Path, space: MotionSpace) -> None:
    """Write a motion space by itself, whole or not at all."""
    write_arrays(Path(path), space_arrays(space), {"space": space_header(space)})


def space_header(space: MotionSpace) -> str:
    groups = [list(group) for group in space.groups]
    return json.dumps(
        {"name": space.name, "groups": groups, "pose_reference": space.pose_reference}
    )


def space_arrays(space: MotionSpace) -> Arrays:
    arrays = {key: getattr(space, key) for key in (*STATISTICS, *SURFACE_TENSORS)}
    return {key: value for key, value in arrays.items() if value is not None}


def space_from_arrays(arrays: Arrays, header: str, where: Path) -> MotionSpace:
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
    require_same_keys(arrays, (*STATISTICS, *present), f"{where}: motion space")
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
