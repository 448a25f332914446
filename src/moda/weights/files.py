"""Files of tensors: .safetensors with a format version and a hash, read whole and checked.

Every header has free metadata, a format version, and a SHA-256 of all of that with the tensors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from moda.errors import CheckpointError, OutputError
from moda.files import whole_file
from moda.strict_json import parse_json

Arrays = dict[str, NDArray[Any]]

FORMAT_VERSION = "1"
ASSETS = Path(__file__).parents[1] / "assets"
MAX_LISTED = 8
"""Names spelled out in an error message."""


def read_arrays(path: Path) -> tuple[Arrays, dict[str, str]]:
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


def read_verified(
    path: Path, header_keys: tuple[str, ...], verify: bool
) -> tuple[Arrays, dict[str, str]]:
    """All tensors and the header, whose format version and SHA-256 are right."""
    arrays, header = read_arrays(path)
    version = header.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has checkpoint format {version!r}; this version reads {FORMAT_VERSION!r}"
        )
    missing = [key for key in (*header_keys, "sha256") if key not in header]
    if missing:
        raise CheckpointError(f"{path}: the header lacks {listed(missing)}")
    if verify and header["sha256"] != digest_of(arrays, header, header_keys):
        raise CheckpointError(f"{path} is damaged: its content does not match its SHA-256")
    return arrays, header


def write_arrays(path: Path, arrays: Arrays, header: dict[str, str]) -> None:
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


def digest_of(arrays: Arrays, header: Mapping[str, str], header_keys: tuple[str, ...]) -> str:
    """SHA-256 over the header fields and over name, type, shape and bytes of every tensor."""
    digest = hashlib.sha256()
    for key in header_keys:
        digest.update(json.dumps([key, header[key]]).encode())
    for key in sorted(arrays):
        value = np.asarray(arrays[key], order="C")
        digest.update(json.dumps([key, str(value.dtype), value.shape]).encode())
        digest.update(value.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def strings_of(text: str, where: Path) -> dict[str, str]:
    try:
        values = parse_json(text)
    except ValueError as error:
        raise CheckpointError(f"{where}: the metadata is not JSON: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
        raise CheckpointError(f"{where}: metadata must be an object of strings")
    return values


def require_same_keys(found: Collection[str], expected: Collection[str], what: str) -> None:
    missing = sorted(set(expected) - set(found))
    unexpected = sorted(set(found) - set(expected))
    faults = [
        f"{kind}: {listed(keys)}"
        for kind, keys in (("missing", missing), ("unexpected", unexpected))
        if keys
    ]
    if faults:
        raise CheckpointError(f"{what} tensors do not fit; {'; '.join(faults)}")


def listed(items: list[str], separator: str = ", ") -> str:
    shown = separator.join(items[:MAX_LISTED])
    return shown if len(items) <= MAX_LISTED else f"{shown} and {len(items) - MAX_LISTED} more"


def require_same_tensors(found: Mapping[str, Any], expected: Mapping[str, Any], what: str) -> None:
    """Compare shapes and types of tensors of any library, by their names.

    Raises :class:`CheckpointError` naming all that is missing, unexpected or of another shape.
    """
    require_same_keys(found, expected, what)
    wrong = [
        f"{key} is {tuple(found[key].shape)} {found[key].dtype}, "
        f"expected {tuple(value.shape)} {value.dtype}"
        for key, value in expected.items()
        if (tuple(found[key].shape), found[key].dtype) != (tuple(value.shape), value.dtype)
    ]
    if wrong:
        raise CheckpointError(f"{what} tensors do not fit; {listed(wrong, '; ')}")
