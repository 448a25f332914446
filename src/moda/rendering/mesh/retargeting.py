"""Motion of the mesh space on the shape of one face, inside what the face can do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moda.rendering.mesh.eyes import LID_REGION, are_too_large
from moda.rendering.mesh.geometry import FrameGeometry, Head, smoothstep
from moda.rendering.mesh.plate import Plate
from moda.rendering.mesh.rig import UPPER_LID_SHARE, Rig
from moda.rendering.mesh.warp import keep_edge_lengths
from moda.structures import Floats, MotionSpace
from moda.structures.landmarks import (
    INNER_LIP_LOWER,
    INNER_LIP_UPPER,
    LEFT_BROW,
    LIPS,
    MOUTH_CORNERS,
    NUM_SURFACE,
    RIGHT_BROW,
    Array,
    eased_gap,
    euler_from_rotation,
    lip_gaps,
    lip_width,
    rotation_from_euler,
)

UPPER_FACE_SHARE = 1.0
LID_SHARE = 0.25
"""Of the expression's own motion of the lids: blinks are a procedure of their own."""
WIDEST_LIDS = 0.25
"""How far an eye may open beyond that of the photograph, in blinks."""
SQUINT_SHARE = 0.75
"""The lower lid's part in narrowing an eye over a raised cheek; in a blink it does little."""
CHEEKS, CHEEK_RAISED = [280, 330, 50, 101], 0.02
"""Where a smile raises the face, and how far for a full squint, canonical units."""
EXPRESSION_LIMIT = 6.0
"""Soft limit of each expression parameter, in standard deviations. Those of the mouth are limited
together, so that lips that meet still meet."""
LARGEST_GAP = 0.50
"""Soft limit of the lip gap, canonical units: filmed mouths open by .40, pictures break beyond."""
UPPER_LIP_KEPT = 0.87
"""Least height of the upper lip in a wide mouth, in that of the closed one: median of seven filmed
speakers at gaps above .28."""
WIDE_GAPS = (0.15, 0.30)
"""Lip gaps between which a mouth becomes wide."""
MOUTH_WIDENING_LIMIT, LEAST_WIDENING = 1.40, 0.14
"""Widest mouth, in widths of the mean face's, and how much any mouth may widen, canonical units: a
smile on top of a smile saturates."""
CORNER_REACH = 0.30
"""How far the skin beside a corner of the mouth goes along with it, sideways, canonical units."""
SIDEWAYS_GAIN, OPENING_GAIN = 1.06, 1.09
"""Of the lower face: drawn widths and openings are read smaller than they are."""
WIDTH_OF_GAP = 0.15
"""By which drawn mouths are read wider with the height of their opening, over that height."""
START_DAMPING = 1e-4
"""Keeps parameters that hardly move the lips small."""
PARTING_DAMPING = 1e-3
"""Gaps that are solved for exactly, one against its neighbour, would twist the lips."""
LIP_CONTACT, LIP_RELEASE = 0.006, 0.014
"""Lip gaps below the first are closed; the second is where a gap is itself again."""
GAZE_LIMIT = (0.09, 0.05)
LID_FOLLOWS_GAZE = 0.6
YAW_LIMIT, PITCH_LIMIT, ROLL_LIMIT = 12.0, 12.0, 11.0
FRONTAL_BONUS = 10.0
TOWARDS_CAMERA_LIMIT = 6.0
"""Turning a three-quarter face back to the camera stretches its far cheek."""
TRANSLATION_LIMIT = 0.30
SCALE_LIMIT = 0.08
UPPER_LIP, LOWER_LIP = np.array(INNER_LIP_UPPER), np.array(INNER_LIP_LOWER)
UPPER_LIP_ROWS = np.array([
    (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291),
    (76, 184, 74, 73, 72, 11, 302, 303, 304, 408, 306),
    (62, 183, 42, 41, 38, 12, 268, 271, 272, 407, 292),
])  # fmt: skip
"""Points above those of the inner edge, from the outer edge inwards."""


def soft_limit(value: Array | float, limit: Array | float) -> Array:
    """Follow ``value`` while it is small and approach ``+-limit`` smoothly: v / (1+|v/l|^4)^1/4."""
    ratio = np.abs(np.asarray(value, np.float64) / limit)
    return np.asarray(value) / (1.0 + ratio**4) ** 0.25


class Retargeting:
    """From a row of the motion to this portrait's face, within what a warp can show.

    Mouth offsets scale with the portrait's mouth, those of the upper face are damped, brows move as
    one piece each, and everything saturates softly, so that a smooth motion stays smooth.
    """

    def __init__(self, space: MotionSpace, rig: Rig, plate: Plate) -> None:
        assert space.basis is not None
        assert space.canonical_face is not None
        self._space = space
        self._rig = rig
        self._plate = plate
        self.basis = _fit_basis(
            space.basis.astype(np.float64), space.canonical_face.astype(np.float64), rig.neutral
        )
        """(B, 468, 3) the expression basis fitted to this portrait."""
        self._gaps = lip_gaps(self.basis)
        self._parting = _smallest_parting(self.basis[space.slice("mouth")])
        self._deviation = space.std[: len(space.basis)].astype(np.float64) + 1e-6
        width = float(lip_width(space.canonical_face.astype(np.float64)))
        right, left = MOUTH_CORNERS
        self._own_width = float(rig.neutral[left, 0] - rig.neutral[right, 0])
        widest = max(MOUTH_WIDENING_LIMIT * width, self._own_width + LEAST_WIDENING)
        self._widening_room = widest - self._own_width
        self._lower_face = smoothstep(0.25, 0.55, space.canonical_face[:NUM_SURFACE, 1])
        self._limits = _pose_limits(plate)
        self._eyes_stay = are_too_large(plate.rest.invert(plate.landmarks))

    def photographed_mouth(self) -> Floats:
        """(M,) the mouth parameters whose lips are those of the photograph, least squares."""
        lips = list(LIPS)
        flat = self.basis[self._space.slice("mouth")][:, lips, :2].reshape(-1, 2 * len(lips))
        target = (self._rig.photographed - self._rig.neutral)[lips, :2].ravel()
        normal = flat @ flat.T + START_DAMPING * np.eye(len(flat))
        return np.linalg.solve(normal, flat @ target).astype(np.float32)

    def geometry(self, row: Floats) -> tuple[FrameGeometry, Array, Array]:
        """Face geometry, way of the upper lids (2,) up to 1, iris offset (2,) canonical units."""
        parts = {
            name: row[self._space.slice(name)].astype(np.float64) * (not self._eyes_stay)
            for name in ("blink", "gaze")
        }
        gaze = soft_limit(parts["gaze"], np.array(GAZE_LIMIT))
        closing = np.clip(parts["blink"], -WIDEST_LIDS, 1.0)
        opening = np.array([blink.gap for blink in self._rig.blinks])
        lowered = np.clip(LID_FOLLOWS_GAZE * max(gaze[1], 0.0) / opening, 0.0, 0.4)
        closing = closing + (1.0 - closing) * lowered
        shape = self.face_on(self._rig, row[: len(self.basis)].astype(np.float64))
        lower_share = self._lower_lid_share(shape, closing)
        for blink, amount, share in zip(self._rig.blinks, closing, lower_share, strict=True):
            blink.apply(shape, float(amount), float(share))
        lid = closing * (1.0 - lower_share) / UPPER_LID_SHARE
        head = self._head(row)
        return FrameGeometry(shape, self._rig.project(shape, head), head), lid, gaze

    def _lower_lid_share(self, shape: Array, closing: Array) -> Array:
        """(2,) the lower lids' part of the closing: a smile squints from below, sleep does not."""
        raised = float((self._rig.neutral[CHEEKS, 1] - shape[CHEEKS, 1]).mean())
        squint = (1.0 - np.clip(closing, 0.0, 1.0) ** 2) * smoothstep(0.0, CHEEK_RAISED, raised)
        least = 1.0 - UPPER_LID_SHARE
        return least + (SQUINT_SHARE - least) * squint

    def face_on(self, rig: Rig, parameters: Array) -> Array:
        """Face (468, 3) with expression, lips never crossing and closed when nearly so.

        Args:
            rig: of this portrait, or of another picture of this person with the same topology.
            parameters: (B,) of the expression basis.
        """
        parameters = self._limited(parameters)
        # einsum, because tensordot of this size wakes the threads of OpenBLAS, which wait busily.
        offset: Array = np.einsum("b,bnd->nd", parameters, self.basis)
        crossed = np.minimum(lip_gaps(offset), 0.0)
        offset -= np.einsum("g,gnd->nd", crossed, self._parting)
        self._saturate_width(offset)
        shape: Array = rig.neutral + offset
        everywhere = np.ones(NUM_SURFACE)
        keep_edge_lengths(shape, rig.photographed, rig.jaw_edges, everywhere, 0.35, 6, 0.7)
        _keep_upper_lip(shape, rig.neutral)
        _touch_lips(shape, rig.neutral)
        return shape

    def _limited(self, parameters: Array) -> Array:
        """Parameters (B,) within :data:`EXPRESSION_LIMIT` and :data:`LARGEST_GAP`."""
        limited = soft_limit(parameters, EXPRESSION_LIMIT * self._deviation)
        mouth = self._space.slice("mouth")
        largest = float(np.abs(parameters[mouth] / self._deviation[mouth]).max())
        if largest > 0.0:
            share = float(soft_limit(largest, EXPRESSION_LIMIT)) / largest
            limited[mouth] = share * parameters[mouth]
        gap = float((limited[mouth] @ self._gaps[mouth]).max())
        if gap > 0.0:
            limited[mouth] *= float(soft_limit(gap, LARGEST_GAP)) / gap
        return limited

    def _saturate_width(self, offset: Array) -> None:
        right, left = MOUTH_CORNERS
        widening = float(offset[left, 0] - offset[right, 0])
        if widening > 0.0:
            kept = float(soft_limit(widening, self._widening_room)) / widening
            offset[:, 0] *= 1.0 - (1.0 - kept) * self._lower_face

    def _head(self, row: Floats) -> Head:
        pose = row[self._space.slice("pose")].astype(np.float64)
        limits = np.where(pose[4:7] > 0, self._limits[1], self._limits[0])
        pitch, yaw, roll = soft_limit(pose[4:7], limits)
        return Head(
            rest=self._plate.rest,
            pivot=self._rig.pivot,
            rotation=rotation_from_euler(pitch, yaw, roll),
            translation=soft_limit(pose[1:4], TRANSLATION_LIMIT),
            scale=1.0 + float(soft_limit(pose[0] - 1.0, SCALE_LIMIT)),
        )


def _fit_basis(basis: Array, canonical_face: Array, neutral: Array) -> Array:
    """The expression basis (B, 468, 3) for this portrait: all retargeting is linear."""
    mouth_scale = np.clip(lip_width(neutral) / lip_width(canonical_face), 0.75, 1.2)
    lower_face = smoothstep(0.25, 0.55, canonical_face[:NUM_SURFACE, 1])
    share = lower_face * mouth_scale + (1 - lower_face) * UPPER_FACE_SHARE
    lids = np.zeros(NUM_SURFACE, bool)
    lids[list(LID_REGION)] = True
    share = np.where(lids, LID_SHARE, share)
    fitted = basis.copy()
    for brow in (list(RIGHT_BROW), list(LEFT_BROW)):
        places = canonical_face[brow, 0] - canonical_face[brow, 0].mean()
        tilt = (basis[:, brow] * places[:, None]).sum(1) / (places**2).sum()
        fitted[:, brow] = basis[:, brow].mean(1)[:, None] + places[:, None] * tilt[:, None]
    fitted *= share[:, None]
    skin = np.ones(NUM_SURFACE)
    skin[list(LIPS)] = 0.0
    for corner in MOUTH_CORNERS:
        away = canonical_face[:NUM_SURFACE, :2] - canonical_face[corner, :2]
        near = skin * np.exp(-((np.linalg.norm(away, axis=1) / CORNER_REACH) ** 2))
        fitted[:, :, 0] += near * (fitted[:, corner, 0][:, None] - fitted[:, :, 0])
    for axis, gain in enumerate((SIDEWAYS_GAIN, OPENING_GAIN)):
        fitted[:, :, axis] *= 1.0 + (gain - 1.0) * lower_face
    gap = fitted[:, INNER_LIP_LOWER[5], 1] - fitted[:, INNER_LIP_UPPER[5], 1]
    fitted[:, :, 0] -= np.outer(0.5 * WIDTH_OF_GAP * gap, lower_face * _sides(canonical_face))
    return fitted


def _sides(canonical_face: Array) -> Array:
    """(468,) which side of the mouth: -1 and 1 at its corners, less with distance from it."""
    corners = canonical_face[list(MOUTH_CORNERS), :2]
    half = 0.5 * float(corners[1, 0] - corners[0, 0])
    across, up = (canonical_face[:NUM_SURFACE, :2] - corners.mean(0)).T
    beyond = np.hypot(np.maximum(np.abs(across) - half, 0.0), up)
    side: Array = np.clip(across / half, -1.0, 1.0) * np.exp(-((beyond / CORNER_REACH) ** 2))
    return side


def _smallest_parting(basis: Array) -> Array:
    """(9, 468, 3): smallest changes of the face, in mouths (M, 468, 3), that part a lip gap by 1.

    Motion that closes lips may go further than that. Lips alone moved back would swell.
    """
    flat, gaps = basis.reshape(len(basis), -1), lip_gaps(basis)
    metric = np.linalg.inv(flat @ flat.T + START_DAMPING * np.eye(len(flat)))
    met = gaps.T @ metric @ gaps
    damping = PARTING_DAMPING * np.trace(met) / len(met) * np.eye(len(met))
    return np.tensordot(np.linalg.inv(met + damping) @ gaps.T @ metric, basis, 1)


def _keep_upper_lip(shape: Array, neutral: Array) -> None:
    """Raise the outer rows of an upper lip that a wide mouth would draw too thin, in place."""
    height = shape[UPPER_LIP, 1] - shape[UPPER_LIP_ROWS[0], 1]
    least = UPPER_LIP_KEPT * (neutral[UPPER_LIP, 1] - neutral[UPPER_LIP_ROWS[0], 1])
    wide = smoothstep(*WIDE_GAPS, float(lip_gaps(shape).max()))
    lacking = wide * np.maximum(least - height, 0.0)
    for row, share in zip(UPPER_LIP_ROWS, (1.0, 2.0 / 3.0, 1.0 / 3.0), strict=True):
        shape[row, 1] -= share * lacking


def _touch_lips(shape: Array, neutral: Array) -> None:
    """Keep lips from crossing; close gaps below ``LIP_CONTACT`` exactly, in place.

    A gap that the neutral mouth is left with counts as closed. Lips that touch do so in depth and
    sideways too, so that they meet on the screen however the head turns.
    """
    upper, lower = UPPER_LIP[1:-1], LOWER_LIP[1:-1]
    contact = LIP_CONTACT + np.maximum(neutral[lower, 1] - neutral[upper, 1], 0.0)
    release = contact * (LIP_RELEASE / LIP_CONTACT)
    apart = shape[lower] - shape[upper]
    wanted = eased_gap(apart[:, 1], contact, release)
    apart[:, [0, 2]] *= np.minimum(wanted / release, 1.0)[:, None]
    apart[:, 1] = wanted
    middle = 0.5 * (shape[lower] + shape[upper])
    shape[upper] = middle - 0.5 * apart
    shape[lower] = middle + 0.5 * apart


def _pose_limits(plate: Plate) -> NDArray[np.float64]:
    """Degrees (2, 3): how far pitch, yaw and roll may go in the negative and positive direction.

    Frontal portraits may turn further; a face that looks aside may come back less.
    """
    _, rest_yaw, _ = euler_from_rotation(plate.rest.rotation)
    frontal = float(1 - smoothstep(5.0, 15.0, abs(rest_yaw)))
    aside = float(smoothstep(10.0, 25.0, abs(rest_yaw)))
    away = YAW_LIMIT + FRONTAL_BONUS * frontal
    towards = away + (TOWARDS_CAMERA_LIMIT - away) * aside
    negative, positive = (towards, away) if rest_yaw > 0 else (away, towards)
    pitch = PITCH_LIMIT + FRONTAL_BONUS * frontal
    return np.array([[pitch, negative, ROLL_LIMIT], [pitch, positive, ROLL_LIMIT]])
