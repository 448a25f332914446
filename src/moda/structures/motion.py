"""Motion of a face, and the space that it lives in.

Axis letters in shape comments: T frames, D motion, K key points, H, W picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from moda.errors import InputError
from moda.structures.arrays import Floats, Part, Picture

FRAMES_PER_SECOND = 25.0
"""Rate of the motion and of the speech features. The video may have another rate."""


@dataclass(frozen=True)
class MotionSpace:
    """The joint parameter space of one renderer, with the statistics that go with it.

    A motion vector is ``[expression (E), scale (1), translation (3), pitch, yaw, roll]``. The
    expression is split further in named groups. ``pose_reference`` says what the pose is relative
    to: ``"rest"`` - the head as it is in the portrait (scale 1, translation 0 in units of the
    outer-eye distance, angles 0), or ``"camera"``.
    """

    name: Literal["mesh", "neural"]
    groups: tuple[tuple[str, int], ...]
    """Name and size of each part of the expression, in order."""
    mean: Floats  # (D,)
    std: Floats  # (D,)
    pose_reference: Literal["rest", "camera"]
    canonical_face: Floats | None = None
    """Mean face (478, 3) in canonical units; only in the mesh space."""
    triangles: NDArray[np.int32] | None = None
    """(N, 3) indices of surface points, eyes and mouth left open; only in the mesh space."""
    basis: Floats | None = None
    """(B, 468, 3): vertex offsets in canonical units of the first B expression parameters."""

    @property
    def expression_size(self) -> int:
        return sum(size for _, size in self.groups)

    @property
    def size(self) -> int:
        """Length D of the motion vector."""
        return self.expression_size + 7

    @property
    def rest(self) -> Floats:
        """(D,) raw motion of a face at rest, where that is the same for every portrait."""
        row = np.zeros(self.size, np.float32)
        row[self.expression_size] = 1.0
        return row

    def slice(self, name: str) -> slice:
        """Where a group of the expression, or a part of the pose, lies in the vector."""
        pose = (("scale", 1), ("translation", 3), ("pitch", 1), ("yaw", 1), ("roll", 1))
        start = 0
        for part, size in (*self.groups, *pose):
            if part == name:
                return slice(start, start + size)
            start += size
        if name == "expression":
            return slice(0, self.expression_size)
        if name == "pose":
            return slice(self.expression_size, self.size)
        known = ", ".join(part for part, _ in (*self.groups, *pose))
        raise KeyError(f"motion has no part {name!r}; it has {known}")

    @property
    def scale(self) -> Floats:
        """(D,) what one unit of normalised motion is in raw units."""
        return self.std + np.float32(1e-5)

    def normalize(self, values: Floats) -> Floats:
        """Raw motion (..., D) to zero mean and unit variance."""
        return (values - self.mean) / self.scale

    def denormalize(self, values: Floats) -> Floats:
        """Inverse of :meth:`normalize`."""
        return values * self.scale + self.mean


@dataclass(frozen=True)
class Motion:
    """Motion of a face over time, in raw (not normalised) units."""

    values: Floats  # (T, D)
    space: MotionSpace

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != self.space.size:
            raise InputError(
                f"motion has shape {self.values.shape}; the {self.space.name} space needs "
                f"(T, {self.space.size})"
            )

    def __len__(self) -> int:
        return len(self.values)

    def require_space(self, space: MotionSpace) -> None:
        """Raise :class:`InputError` unless this is motion of a renderer's space."""
        if self.space.groups != space.groups or self.space.name != space.name:
            raise InputError(
                f"this is motion of the {self.space.name} space; "
                f"the renderer needs the {space.name} space it was made for"
            )

    def part(self, name: str) -> Floats:
        """View (T, size) of one named part, see :meth:`MotionSpace.slice`."""
        return self.values[:, self.space.slice(name)]


class Renderer(Protocol):
    """Portrait and motion to pictures. One renderer object belongs to one portrait."""

    @property
    def space(self) -> MotionSpace: ...

    @property
    def frame_size(self) -> tuple[int, int]:
        """(width, height) of the frames, both even."""
        ...

    @property
    def moving(self) -> Part | None:
        """The part outside of which all frames are the same; None where that is not known."""
        ...

    def render(self, motion: Motion) -> Iterator[Picture]:
        """Yield one frame (H, W, 3) per row of ``motion``, in order, as it is asked for.

        A renderer that was made for a transparent background yields (H, W, 4).
        """
        ...
