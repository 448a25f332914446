"""Implicit key points of the neural renderer: pose, placing, driving by a motion.

A face is 21 implicit key points in its own canonical pose; expression, scale, rotation and
translation place them in the picture (LivePortrait, arXiv 2407.03168, section 3.2; face-vid2vid,
arXiv 2011.15126, section 3.1). Everything is numpy float32 and batched over leading axes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from moda.errors import InputError
from moda.structures.arrays import Floats
from moda.structures.portrait import ImplicitFace

NUM_KEYPOINTS = 21
EXPRESSION_SIZE = 3 * NUM_KEYPOINTS
MOTION_SIZE = EXPRESSION_SIZE + 7
LIP_KEYPOINTS = (6, 12, 14, 17, 19, 20)
EYE_KEYPOINTS = (11, 13, 15, 16, 18)

NUM_ANGLE_BINS = 66
DEGREES_PER_BIN = 3.0
FIRST_BIN_DEGREES = -97.5


DRIVEN_AXES = np.zeros((NUM_KEYPOINTS, 3), np.bool_)
"""(21, 3): which axes of which key points take the motion's expression; the others keep the
portrait's own."""
DRIVEN_AXES[[1, 2, 6, *range(11, NUM_KEYPOINTS)]] = True
DRIVEN_AXES[[3, 4, 9], 1] = True
DRIVEN_AXES[[5, 8, 9], 2] = True

EYE_OFFSET = np.zeros((NUM_KEYPOINTS, 3), np.float32)
"""(21, 3): the published system moves the eyes by this in every frame."""
EYE_OFFSET[[11, 15], 1] = 0.0025
EYE_OFFSET[[13, 16], 1] = 0.00075


class MotionParts(NamedTuple):
    """Views of a raw motion (..., 70) of the neural space."""

    expression: Floats  # (..., 21, 3)
    scale: Floats  # (...,)
    translation: Floats  # (..., 3)
    pitch: Floats  # (...,) degrees
    yaw: Floats  # (...,) degrees
    roll: Floats  # (...,) degrees


def split_motion(motion: Floats) -> MotionParts:
    """Name the parts of a raw motion (..., 70).

    Raises InputError if the last axis is not 70.
    """
    if motion.shape[-1:] != (MOTION_SIZE,):
        raise InputError(
            f"motion has shape {motion.shape}; the neural renderer needs (..., {MOTION_SIZE})"
        )
    expression = motion[..., :EXPRESSION_SIZE]
    pose = motion[..., EXPRESSION_SIZE:]
    return MotionParts(
        expression=expression.reshape(*motion.shape[:-1], NUM_KEYPOINTS, 3),
        scale=pose[..., 0],
        translation=pose[..., 1:4],
        pitch=pose[..., 4],
        yaw=pose[..., 5],
        roll=pose[..., 6],
    )


def angles_from_logits(logits: Floats) -> Floats:
    """Expected angle in degrees (...,) of logits (..., 66) over bins of 3 degrees from -97.5.

    The expectation over bins is Hopenet's (arXiv 1710.00925, section 3.2).
    """
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    bins = np.arange(NUM_ANGLE_BINS, dtype=np.float32)
    expected_bin = (weights * bins).sum(axis=-1) / weights.sum(axis=-1)
    return expected_bin * np.float32(DEGREES_PER_BIN) + np.float32(FIRST_BIN_DEGREES)


def rotation_from_angles(pitch: Floats, yaw: Floats, roll: Floats) -> Floats:
    """Rotation (..., 3, 3) of angles (...,) in degrees, for points as rows: ``points @ rotation``.

    It is the transpose of ``Rz(roll) @ Ry(yaw) @ Rx(pitch)``.
    """
    x, y, z = (np.deg2rad(np.asarray(angle, dtype=np.float32)) for angle in (pitch, yaw, roll))
    (cx, sx), (cy, sy), (cz, sz) = ((np.cos(angle), np.sin(angle)) for angle in (x, y, z))
    columns = (
        (cy * cz, sx * sy * cz - cx * sz, cx * sy * cz + sx * sz),
        (cy * sz, sx * sy * sz + cx * cz, cx * sy * sz - sx * cz),
        (-sy, sx * cy, cx * cy),
    )
    return np.stack([np.stack(column, axis=-1) for column in columns], axis=-1)


def angles_from_rotation(rotation: Floats) -> tuple[Floats, Floats, Floats]:
    """Pitch, yaw and roll (...,) in degrees of rotations (..., 3, 3) for points as rows.

    The inverse of :func:`rotation_from_angles` for yaw within 90 degrees.
    """
    pitch = np.arctan2(rotation[..., 1, 2], rotation[..., 2, 2])
    yaw = np.arcsin(np.clip(-rotation[..., 0, 2], -1.0, 1.0))
    roll = np.arctan2(rotation[..., 0, 1], rotation[..., 0, 0])
    return np.rad2deg(pitch), np.rad2deg(yaw), np.rad2deg(roll)


def place_keypoints(canonical: Floats, motion: Floats) -> Floats:
    """Key points (..., 21, 3) of canonical ones (..., 21, 3) moved by a raw motion (..., 70).

    ``scale * (canonical @ rotation + expression)``, then the translation on x and y; the depth
    translation plays no part.
    """
    expression, scale, translation, pitch, yaw, roll = split_motion(motion)
    rotated = canonical @ rotation_from_angles(pitch, yaw, roll)
    placed = scale[..., None, None] * (rotated + expression)
    placed[..., :2] += translation[..., None, :2]
    return placed


def driving_keypoints(face: ImplicitFace, motion: Floats) -> Floats:
    """Key points (T, 21, 3) of a portrait driven by a raw motion (T, 70), before stitching.

    The motion replaces the portrait's expression on :data:`DRIVEN_AXES` only, and its pose
    entirely. Nothing is changed in place.
    """
    own, driving = split_motion(face.motion), split_motion(motion)
    moved = np.array(motion, dtype=np.float32)
    moved[..., :EXPRESSION_SIZE] = np.where(
        DRIVEN_AXES, driving.expression, own.expression
    ).reshape(*motion.shape[:-1], EXPRESSION_SIZE)
    return place_keypoints(face.canonical_keypoints, moved)
