"""Mapped tensors are those of the file, read-only, and take no memory until they are looked at."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from moda.data.mapped import map_tensors
from moda.errors import CheckpointError


def test_they_are_what_safetensors_reads(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    tensors = {
        "a/motion": generator.standard_normal((2, 7, 5)).astype(np.float32),
        "a/features": generator.standard_normal((7, 3)).astype(np.float16),
        "found": np.array([1, 0, 1], np.uint8),
        "samples": generator.integers(-99, 99, 11).astype(np.int16),
        "empty": np.zeros((0, 4), np.float32),
    }
    path = tmp_path / "clip.safetensors"
    save_file(tensors, path, metadata={"name": "a"})
    mapped, expected = map_tensors(path), load_file(path)
    assert set(mapped) == set(expected)
    for name, value in expected.items():
        assert mapped[name].dtype == value.dtype
        np.testing.assert_array_equal(mapped[name], value)
    with pytest.raises(ValueError, match="read-only"):
        mapped["found"][0] = 2


def test_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.safetensors"
    save_file({"features": np.ones((4000, 9216), np.float16)}, path)
    tracemalloc.start()
    features = map_tensors(path)["features"]
    total = sum(float(features[row : row + 80].astype(np.float32).mean()) for row in (0, 900, 3900))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == pytest.approx(3.0)
    assert path.stat().st_size > 70e6
    assert peak < 6e6


@pytest.mark.parametrize("damage", ["short", "empty", "header", "outside"])
def test_damaged_files_are_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "clip.safetensors"
    save_file({"a": np.ones(100, np.float32)}, path)
    content = path.read_bytes()
    path.write_bytes(
        {
            "short": content[:-10],
            "empty": b"",
            "header": content[:8] + b"x" * (len(content) - 8),
            "outside": (2**40).to_bytes(8, "little") + content[8:],
        }[damage]
    )
    with pytest.raises(CheckpointError, match="cannot be mapped"):
        map_tensors(path)
    with pytest.raises(CheckpointError, match="cannot be mapped"):
        map_tensors(tmp_path / "nowhere.safetensors")
