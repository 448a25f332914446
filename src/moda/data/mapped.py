"""Tensors of .safetensors files as views of the file: rows are read when they are looked at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moda.errors import CheckpointError
from moda.strict_json import parse_json

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100_000_000
DTYPES: Mapping[str, str] = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
}


def map_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """All tensors of a file by name, read-only. The file is mapped once and never held in memory.

    Raises:
        CheckpointError: The file is missing or damaged, or a tensor has a type that numpy lacks.
    """
    try:
        content = np.memmap(path, np.uint8, mode="r")
        length = int.from_bytes(content[:LENGTH_BYTES].tobytes(), "little")
        if not 0 < length <= min(MAX_HEADER_BYTES, len(content) - LENGTH_BYTES):
            raise ValueError(f"its header claims {length} bytes")
        header = parse_json(content[LENGTH_BYTES : LENGTH_BYTES + length].tobytes())
        data = np.asarray(content)[LENGTH_BYTES + length :]
        return {
            name: _view(data, entry) for name, entry in header.items() if name != "__metadata__"
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} cannot be mapped as safetensors: {error}") from error


def _view(data: NDArray[np.uint8], entry: dict[str, Any]) -> NDArray[Any]:
    first, end = entry["data_offsets"]
    if not 0 <= first <= end <= len(data):
        raise ValueError(f"a tensor lies outside the file, at {first}..{end}")
    return np.ndarray(entry["shape"], DTYPES[entry["dtype"]], buffer=data[first:end])
