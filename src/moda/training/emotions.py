"""What an emotion adds to the mean motion: measured on acted clips, completed from anatomy.

A handful of actors show the direction of an emotion but not all of it. The offset of an emotion is
therefore the most probable one under two witnesses: the acted clips say where the whole face goes,
and the facial action units of the emotion say how far its named points must go to be recognised.
Lip gaps never change, so that lips that close in speech close in every emotion.

Source of the action units: P. Ekman, W. Friesen and J. Hager, "Facial Action Coding System", 2002,
and its emotion tables (EMFACS). Raised upper lids (5) are left out, since the lids of a photograph
cannot be opened further, and so is what parts the lips (16, 25).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import lsq_linear

from moda.data.clips import PreparedClip
from moda.data.dataset import mirror_track, speaker_neutrals
from moda.data.mesh_space import mirrored_indices
from moda.encoders.tracking import motion_from_landmarks
from moda.errors import ConfigError
from moda.landmarks import NUM_SURFACE, Array, lip_gaps
from moda.structures import EMOTIONS, Floats, MotionSpace

NAMED_POINTS: Mapping[str, tuple[int, ...]] = {
    "inner brow": (336, 285),
    "middle brow": (334, 282),
    "outer brow": (300, 276),
    "cheek": (280, 330),
    "nose wing": (358, 327),
    "mouth corner": (291, 308),
    "upper lip": (0, 267, 13, 312),
    "lower lip": (17, 314, 14, 317),
    "chin": (152, 377),
}
"""Points of the person's left half; those of the right half are their mirror images."""

ACTION_UNITS: Mapping[int, Mapping[str, tuple[float, float]]] = {
    1: {"inner brow": (0, -6), "middle brow": (0, -4)},
    2: {"outer brow": (0, -5), "middle brow": (0, -5)},
    4: {"inner brow": (-2.5, 5), "middle brow": (-2, 4), "outer brow": (-0.5, 2)},
    6: {"cheek": (0, -2.5)},
    9: {"inner brow": (-1, 3), "nose wing": (0, -2.5), "upper lip": (0, -2)},
    10: {"upper lip": (0, -3), "nose wing": (1, -3), "mouth corner": (2, 0.5)},
    12: {"mouth corner": (8, -8), "cheek": (1, -1.5), "upper lip": (0, 0.5), "chin": (0, 0)},
    14: {"mouth corner": (3, -1), "chin": (0, 0)},
    15: {"mouth corner": (0, 6), "upper lip": (0, 0), "chin": (0, 0)},
    17: {"lower lip": (0, -2), "upper lip": (0, -1), "chin": (0, -2)},
    20: {"mouth corner": (6, 2)},
    23: {"mouth corner": (-3, 0), "chin": (0, 0)},
    24: {"upper lip": (0, 1), "lower lip": (0, -1)},
    26: {"chin": (0, 4)},
}
"""Number of the unit -> named points -> where they go, outward and down, in hundredths of the
outer-eye distance."""

LID_CLOSING: Mapping[int, float] = {6: 0.1, 7: 0.15, 9: 0.1, 43: 0.12}
"""Number of the unit -> how far the lids come down, in blinks."""


class Anatomy(NamedTuple):
    """The look of one emotion at full strength."""

    units: Mapping[int, float] = {}
    """Action units with their strengths"""
    left_units: Mapping[int, float] = {}
    """The same on the left half only"""
    pitch_degrees: float = 0.0
    """of the head, down is positive"""
    roll_degrees: float = 0.0


ANATOMY: Mapping[str, Anatomy] = {
    "angry": Anatomy({4: 1.2, 7: 1.0, 23: 1.0, 24: 1.0, 15: 0.4}, pitch_degrees=2.0),
    "contempt": Anatomy(
        {43: 0.7}, {2: 0.6, 12: 0.9, 14: 1.0}, pitch_degrees=-2.0, roll_degrees=1.5
    ),
    "disgusted": Anatomy({4: 0.6, 9: 1.0, 10: 1.0, 17: 0.5}, pitch_degrees=-1.5),
    "fear": Anatomy({1: 1.0, 2: 0.7, 4: 0.4, 20: 1.2, 26: 0.5}, pitch_degrees=-1.0),
    "happy": Anatomy({6: 1.0, 12: 1.15}, pitch_degrees=-1.0),
    "neutral": Anatomy(),
    "sad": Anatomy({1: 1.0, 4: 0.3, 15: 0.8, 17: 0.6, 43: 1.0}, pitch_degrees=3.0),
    "surprised": Anatomy({1: 1.2, 2: 1.2, 26: 2.0}, pitch_degrees=-1.5),
}

POINT_ERROR = 0.008
"""How exactly a named point meets its place, canonical units."""
GAP_ERROR = 0.0003
"""How exactly the lip gaps stay what they are, canonical units."""
DATA_ERROR = 1.0
"""How far the acted clips may be from the truth, in standard deviations of the motion."""
LARGEST_DEVIATION: Mapping[str, float] = {"mouth": 2.5, "brows": 4.0, "cheeks": 2.5}
"""Limits of the parameters in standard deviations: the mouth must have room left for the speech."""


def emotion_means(clips: Sequence[PreparedClip], space: MotionSpace) -> Floats:
    """Offsets (9, D) of the mean motion in raw units: the rows of EMOTIONS, then zeros for none.

    Args:
        clips: those with an emotion whose speaker has a neutral clip too are measured, the others
            are passed over; without any the offsets are those of the anatomy alone.
        space: the mesh motion space.

    Raises:
        ConfigError: the space has no canonical face or no basis.
    """
    if space.canonical_face is None or space.basis is None:
        raise ConfigError(
            f"the {space.name} motion space has no canonical face and basis to write emotions in;"
            " use the mesh space"
        )
    acted = acted_offsets(clips, space)
    table = np.zeros((len(EMOTIONS) + 1, space.size), np.float32)
    for row, emotion in zip(table, EMOTIONS, strict=False):
        anatomy = ANATOMY[emotion]
        if emotion != "neutral":
            row[: len(space.basis)] = solve_expression(anatomy, acted.get(emotion), space)
        closing = [LID_CLOSING.get(unit, 0.0) * share for unit, share in anatomy.units.items()]
        row[space.slice("blink")] = sum(closing)
        row[space.slice("pitch")] = anatomy.pitch_degrees
        row[space.slice("roll")] = anatomy.roll_degrees
    return table


def acted_offsets(clips: Sequence[PreparedClip], space: MotionSpace) -> dict[str, Array]:
    """For each emotion that is acted, the expression (B,) it adds to the actors' neutral clips.

    Actors disagree, so each region of the face is shrunk, see :func:`shrunk_mean`; a single actor,
    who cannot disagree, counts half.
    """
    assert space.basis is not None
    size = len(space.basis)
    neutrals = speaker_neutrals(clips, space)
    means: dict[str, dict[str, Array]] = {}
    for clip in clips:
        if clip.emotion is None or clip.speaker not in neutrals:
            continue
        tracks = (clip.track, mirror_track(clip.track, space))
        both = [
            motion_from_landmarks(track, space, neutral=neutral, smooth=False)[0].values[:, :size]
            for track, neutral in zip(tracks, neutrals[clip.speaker], strict=True)
        ]
        mean = both[0].mean(0, dtype=np.float64)
        if clip.emotion != "contempt":
            mean = 0.5 * (mean + both[1].mean(0, dtype=np.float64))
        means.setdefault(clip.emotion, {})[clip.speaker] = mean
    calm = means.pop("neutral", {})
    acted = {}
    for emotion, by_actor in means.items():
        offsets = np.stack([mean - calm[actor] for actor, mean in by_actor.items()])
        acted[emotion] = np.concatenate(
            [shrunk_mean(offsets[:, space.slice(name)]) for name in LARGEST_DEVIATION]
        )
    return acted


def shrunk_mean(offsets: Array) -> Array:
    """Mean (B,) of what N actors show (N, B), less where they disagree.

    Source: the positive-part estimator of W. James and C. Stein, "Estimation with quadratic loss",
    1961: ``m max(0, 1 - |s|^2 / (N |m|^2))``.
    """
    mean: Array = offsets.mean(0)
    if len(offsets) < 2:
        return 0.5 * mean
    error = offsets.var(0, ddof=1).sum() / len(offsets)
    shrunk: Array = mean * max(0.0, 1.0 - error / max(float(mean @ mean), 1e-12))
    return shrunk


def solve_expression(anatomy: Anatomy, acted: Array | None, space: MotionSpace) -> Floats:
    """The expression (B,) between the anatomy of an emotion and what actors show (B,).

    Least squares with bounds: ``|points(x) - targets|^2 / POINT_ERROR^2 + |gaps(x)|^2 / GAP_ERROR^2
    + |x - acted|^2 / (DATA_ERROR std)^2``, no parameter beyond its ``LARGEST_DEVIATION``.
    """
    assert space.basis is not None
    basis = space.basis.astype(np.float64)
    points, targets = point_targets(anatomy, space)
    deviation = np.maximum(space.std[: len(basis)].astype(np.float64), 1e-6)
    prior = np.zeros(len(basis)) if acted is None else acted
    rows = np.concatenate(
        [
            basis[:, points, :2].reshape(len(basis), -1) / POINT_ERROR,
            lip_gaps(basis) / GAP_ERROR,
            np.diag(1.0 / (DATA_ERROR * deviation)),
        ],
        axis=1,
    )
    wanted = np.concatenate(
        [
            targets.ravel() / POINT_ERROR,
            np.zeros(len(lip_gaps(basis[0]))),
            prior / (DATA_ERROR * deviation),
        ]
    )
    limit = deviation.copy()
    for name, largest in LARGEST_DEVIATION.items():
        limit[space.slice(name)] *= largest
    return lsq_linear(rows.T, wanted, (-limit, limit)).x.astype(np.float32)


def point_targets(anatomy: Anatomy, space: MotionSpace) -> tuple[list[int], Array]:
    """The points an emotion moves and where they go: indices (N,) and offsets (N, 2), canonical."""
    assert space.canonical_face is not None
    mirror = mirrored_indices(space.canonical_face.astype(np.float64))[:NUM_SURFACE]
    left = _add_units(anatomy.units, anatomy.left_units)
    moved: dict[int, tuple[float, float]] = {}
    for name, (outward, down) in left.items():
        moved |= dict.fromkeys(NAMED_POINTS[name], (outward, down))
    still = dict.fromkeys(anatomy.left_units, 0.0)
    for name, (outward, down) in _add_units(anatomy.units, still).items():
        moved |= {int(mirror[point]): (-outward, down) for point in NAMED_POINTS[name]}
    return list(moved), 0.01 * np.array(list(moved.values()), np.float64).reshape(-1, 2)


def _add_units(*tables: Mapping[int, float]) -> dict[str, Array]:
    """Named points -> sum of the offsets (2,) of all units, outward and down, in hundredths."""
    total: dict[str, Array] = {}
    for table in tables:
        for unit, share in table.items():
            for name, offset in ACTION_UNITS.get(unit, {}).items():
                total[name] = total.get(name, np.zeros(2)) + share * np.array(offset, np.float64)
    return total
