"""After an installation: half of what has to be compiled once is compiled in a second process.

It is what paints the mouth and smooths outlines, which a frame needs last. Threads would gain
nothing, because numba compiles one function at a time. The result lies in numba's cache on disk.
"""

from __future__ import annotations

import atexit
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from moda.rendering.mesh.mouth_painting import (
    ArchView,
    Opening,
    Patch,
    Tongue,
    lip_curves,
    paint_mouth,
)
from moda.rendering.mesh.warp import AffineMap, gather_samples, make_buffers, scatter_samples

_running: list[subprocess.Popen[bytes]] = []


def compile_beside() -> None:
    """Begin to compile in a second process, if that was never done here.

    For programs that Python itself runs, such as the command line.
    """
    if _is_kept(gather_samples) or getattr(sys, "frozen", False) or not sys.executable:
        return
    nothing = subprocess.DEVNULL
    command = [sys.executable, "-P", "-m", __name__]  # -P: nothing of the current folder is run
    _running.append(subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing))
    atexit.register(_running[-1].kill)


def was_compiled() -> bool:
    """Whether this program has compiled what later ones find."""
    return bool(_running)


def wait_until_compiled() -> None:
    """Return when nothing is being compiled beside; where that failed, this process compiles."""
    for process in _running:
        process.wait()


def call_for_nothing() -> None:
    """Call each kernel with arguments of the right kinds and nothing to paint."""
    lips = np.array([[0.0, 0.0], [1.0, 0.0]])
    *_, edges = lip_curves(lips, lips)
    pixel, picture = np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1, 4), np.float32)
    arch = ArchView._make([*17 * [0.0], picture[0, 0], picture, picture[0, 0]])
    paint_mouth(
        pixel, (0, 0, 0, 0), Opening(*14 * [0.0]), edges, arch, arch, Tongue(*4 * [0.0]),
        picture[0], Patch(picture, 0.0, 0.0), AffineMap(*6 * [0.0]), picture[0], np.zeros(3),
    )  # fmt: skip
    buffers, corners = make_buffers(1, 1), np.zeros((0, 3), np.float32)
    samples = buffers.sample_depth[:0], buffers.sample_map[:0]
    triangles = np.zeros((0, 3), np.int32)
    scatter_samples(corners, corners, triangles, buffers.slot, buffers.tiles, *samples)
    gather_samples(buffers.edge_pixels[:0], *samples, pixel, pixel)


def _is_kept(kernel: Any) -> bool:
    """Whether numba's cache has the kernel, newer than its source, or has no folder at all."""
    function, folder = kernel.py_func, kernel.stats.cache_path
    source = Path(function.__code__.co_filename)
    if folder is None or not source.is_file():
        return True
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    name = f"{source.stem}.{function.__qualname__}-{function.__code__.co_firstlineno}"
    kept = Path(folder).glob(f"{name}.{python}*.nbi")
    return any(index.stat().st_mtime >= source.stat().st_mtime for index in kept)


if __name__ == "__main__":
    call_for_nothing()
