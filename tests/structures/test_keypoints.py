"""Key-point algebra against recordings of the released implementation and against geometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import from_numpy

from moda.errors import InputError
from moda.rendering.neural.networks import RenderingNetworks
from moda.structures import Floats, ImplicitFace
from moda.structures.keypoints import (
    DRIVEN_AXES,
    EYE_OFFSET,
    angles_from_logits,
    driving_keypoints,
    place_keypoints,
    rotation_from_angles,
)
from published_weights import load_filled, noise

PUBLISHED = Path(__file__).parents[1] / "data" / "published"
LIMIT = 2e-6
"""The recordings are float32; key points are within 1 or so."""


@pytest.fixture(scope="module")
def golden() -> dict[str, Floats]:
    with np.load(PUBLISHED / "motion_space.npz") as file:
        return dict(file)


def numbers(name: str, *shape: int) -> Floats:
    return noise(name, *shape).numpy()


def angles(record: str, batch: int) -> list[Floats]:
    return [
        angles_from_logits(numbers(f"input/kp/{record}/{name}", batch, 66))
        for name in ("pitch", "yaw", "roll")
    ]


def recorded_face(record: str, batch: int, expression: Floats) -> tuple[Floats, Floats]:
    """Canonical key points (batch, 21, 3) and motion (batch, 70) of a recorded input."""
    canonical = 0.3 * numbers(f"input/kp/{record}/kp", batch, 63)
    scale = 1.3 + 0.1 * numbers(f"input/kp/{record}/scale", batch, 1)
    translation = 0.05 * numbers(f"input/kp/{record}/t", batch, 3)
    pose = np.stack(angles(record, batch), axis=-1)
    motion = np.concatenate((expression, scale, translation, pose), axis=-1)
    return canonical.reshape(batch, 21, 3), motion


def random_motion(num_frames: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(0.5, 0.2, (num_frames, 70)).astype(np.float32)


@pytest.fixture(scope="module")
def face() -> ImplicitFace:
    rng = np.random.default_rng(1)
    canonical = rng.normal(0, 0.3, (21, 3)).astype(np.float32)
    return ImplicitFace(canonical, random_motion(1, seed=2)[0])


def test_recorded_angles(golden: dict[str, Floats]) -> None:
    for name, found in zip(("pitch", "yaw", "roll"), angles("a", 3), strict=True):
        np.testing.assert_allclose(found, golden[f"pose/deg_{name}"], rtol=0, atol=2e-5)


def test_recorded_rotations(golden: dict[str, Floats]) -> None:
    found = rotation_from_angles(*angles("a", 3))
    np.testing.assert_allclose(found, golden["pose/R_from_logits"], rtol=0, atol=LIMIT)
    found = rotation_from_angles(*golden["pose/deg_in"].T)
    np.testing.assert_allclose(found, golden["pose/R_from_deg"], rtol=0, atol=LIMIT)


def test_recorded_placing(golden: dict[str, Floats]) -> None:
    found = place_keypoints(*recorded_face("a", 3, 0.01 * numbers("input/kp/a/exp", 3, 63)))
    np.testing.assert_allclose(found, golden["kp/x_s_logits"], rtol=0, atol=LIMIT)


def test_recorded_driving(golden: dict[str, Floats]) -> None:
    with np.load(PUBLISHED / "motion_stats.npz") as file:
        mean, std = file["mean"][:63], file["std"][:63]
    canonical, motion = recorded_face("src", 1, mean + std * numbers("input/kp/src/exp", 1, 63))
    np.testing.assert_allclose(
        place_keypoints(canonical, motion), golden["driven/x_s"], rtol=0, atol=LIMIT
    )
    parts = ("exp", "scale", "t", "pitch", "yaw", "roll")
    driving = np.concatenate([golden[f"norm/seq_{part}"].reshape(120, -1) for part in parts], -1)
    driving[:, :63] += EYE_OFFSET.reshape(-1)
    driving[:, 63] = motion[0, 63]
    driven = driving_keypoints(ImplicitFace(canonical[0], motion[0]), driving[:6])
    networks = RenderingNetworks()
    load_filled("stitching", networks.stitching)
    stitched = networks.stitch(from_numpy(golden["driven/x_s"]), from_numpy(driven))
    np.testing.assert_allclose(stitched, golden["driven/x_d"], rtol=0, atol=LIMIT)


def test_rotations_turn_and_do_not_bend() -> None:
    pitch, yaw, roll = np.random.default_rng(0).uniform(-80, 80, (3, 2, 5)).astype(np.float32)
    rotation = rotation_from_angles(pitch, yaw, roll)
    assert rotation.shape == (2, 5, 3, 3)
    np.testing.assert_allclose(
        rotation @ rotation.swapaxes(-1, -2), np.broadcast_to(np.eye(3), (2, 5, 3, 3)), atol=1e-6
    )
    np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("angle", "before", "after"),
    [(0, (0, 1, 0), (0, 0, 1)), (1, (0, 0, 1), (1, 0, 0)), (2, (1, 0, 0), (0, 1, 0))],
)
def test_quarter_turns(angle: int, before: tuple[float, ...], after: tuple[float, ...]) -> None:
    """Pitch turns y to z, yaw z to x, roll x to y."""
    degrees = [np.float32(90.0 if index == angle else 0.0) for index in range(3)]
    rotation = rotation_from_angles(*(np.asarray(value) for value in degrees))
    np.testing.assert_allclose(np.array(before, np.float32) @ rotation, after, atol=1e-6)


@pytest.mark.parametrize("index", [0, 30, 65])
def test_certain_logits_give_their_bin(index: int) -> None:
    logits = np.zeros(66, dtype=np.float32)
    logits[index] = 200.0
    assert angles_from_logits(logits) == pytest.approx(3 * index - 97.5, abs=1e-4)


def test_own_motion_gives_own_keypoints(face: ImplicitFace) -> None:
    driven = driving_keypoints(face, face.motion[None])
    own = place_keypoints(face.canonical_keypoints, face.motion)
    np.testing.assert_allclose(driven[0], own, rtol=0, atol=1e-6)


def test_only_driven_axes_follow_the_motion(face: ImplicitFace) -> None:
    """With the head straight, an axis that is not driven does not see the motion's expression."""
    still = np.zeros((2, 70), dtype=np.float32)
    still[1, :63] = 1.0
    still[:, 63] = 1.0
    moved = np.diff(driving_keypoints(face, still), axis=0)[0]
    np.testing.assert_allclose(moved, DRIVEN_AXES, atol=1e-5)
    assert DRIVEN_AXES.sum() == 3 * 13 + 6


def test_nothing_is_changed_in_place(face: ImplicitFace) -> None:
    motion = random_motion(4)
    before = motion.copy(), face.motion.copy(), face.canonical_keypoints.copy()
    driving_keypoints(face, motion)
    place_keypoints(face.canonical_keypoints, motion)
    for now, then in zip((motion, face.motion, face.canonical_keypoints), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="needs"):
        place_keypoints(np.zeros((21, 3), np.float32), np.zeros((2, 69), np.float32))
