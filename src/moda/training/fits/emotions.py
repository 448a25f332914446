"""What an emotion adds to the mean motion: measured on acted clips, completed from anatomy.

A handful of actors show the direction of an emotion but not all of it. The offset of an emotion is
therefore the most probable one under two witnesses: the acted clips say where the whole face goes,
and the facial action units of the emotion say how far its named points must go to be recognised.
Lip gaps are those of the units that part the lips, whatever the actors were saying. What parts
them is for speaking lips only, see :func:`moda.motion.rules.emotion.part_with_speech`.

Source of the action units: P. Ekman, W. Friesen and J. Hager, "Facial Action Coding System", 2002,
and its emotion tables (EMFACS). The amounts of a smile and of a sad mouth are those that MoDA shows
(arXiv 2507.03256): corners .05 of the eye distance apart.
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
from moda.structures import EMOTIONS, Floats, MotionSpace
from moda.structures.landmarks import INNER_LIP_UPPER, NUM_SURFACE, Array, lip_gaps

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
    12: {"mouth corner": (8, -4.5), "cheek": (1, -1.5), "upper lip": (0, -1), "chin": (0, 0)},
    14: {"mouth corner": (2, -2), "chin": (0, 0)},
    15: {"mouth corner": (0, 6), "upper lip": (0, 0), "chin": (0, 0)},
    17: {"lower lip": (0, -2), "upper lip": (0, -1), "chin": (0, -2)},
    20: {"mouth corner": (6, 2)},
    23: {"mouth corner": (-3, 0), "chin": (0, 0)},
    25: {"upper lip": (0, -1.5), "lower lip": (0, 2), "chin": (0, 1)},
    26: {"lower lip": (0, 3), "chin": (0, 4)},
}
"""Number of the unit -> named points -> where they go, outward and down, in hundredths of the
outer-eye distance."""

LIP_PARTING: Mapping[int, float] = {25: 0.035, 26: 0.02}
"""Number of the unit -> what it adds to the gap in the middle of speaking lips, canonical units."""

LID_CLOSING: Mapping[int, float] = {5: -0.16, 6: 0.36, 7: 0.12, 9: 0.2, 43: 0.12}
"""Number of the unit -> how far the lids come together, in blinks; negative opens them wider."""


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
    "angry": Anatomy({4: 1.2, 7: 1.0, 10: 0.3, 15: 0.3, 23: 1.0, 25: 0.5}, pitch_degrees=3.0),
    "contempt": Anatomy(
        {43: 1.2}, {2: 0.6, 12: 0.55, 14: 1.0}, pitch_degrees=-2.0, roll_degrees=1.5
    ),
    "disgusted": Anatomy({4: 0.5, 9: 1.0, 10: 0.8, 15: 0.3, 25: 0.6}, pitch_degrees=-1.5),
    "fear": Anatomy({1: 1.4, 2: 0.5, 4: 0.7, 5: 1.0, 20: 0.9, 25: 0.7}, pitch_degrees=-1.0),
    "happy": Anatomy({6: 1.0, 12: 0.85, 25: 1.0}, pitch_degrees=-1.0),
    "neutral": Anatomy(),
    "sad": Anatomy({1: 1.3, 4: 0.6, 15: 0.5, 17: 0.4, 43: 0.7}, pitch_degrees=3.0),
    "surprised": Anatomy({1: 1.2, 2: 1.2, 5: 1.2, 25: 0.7, 26: 1.0}, pitch_degrees=-1.5),
}

NUM_GAPS = len(INNER_LIP_UPPER) - 2
POINT_ERROR = 0.008
"""How exactly a named point meets its place, canonical units."""
GAP_ERROR = 0.0003
"""How exactly the lip gaps become those of the units, canonical units."""
DATA_ERROR = 1.0
"""How far the acted clips may be from the truth, in standard deviations of the motion."""
LARGEST_DEVIATION: Mapping[str, float] = {"mouth": 1.8, "brows": 4.0, "cheeks": 2.5}
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
        row[space.slice("blink")] = _total(LID_CLOSING, anatomy.units)
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
    return mean * max(0.0, 1.0 - error / max(float(mean @ mean), 1e-12))


def solve_expression(anatomy: Anatomy, acted: Array | None, space: MotionSpace) -> Floats:
    """The expression (B,) between the anatomy of an emotion and what actors show (B,).

    Least squares with bounds: ``|points(x) - targets|^2 / POINT_ERROR^2 + |gaps(x) - parting|^2 /
    GAP_ERROR^2 + |x - acted|^2 / (DATA_ERROR std)^2``, no parameter beyond its
    ``LARGEST_DEVIATION``.
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
            lip_parting(anatomy) / GAP_ERROR,
            prior / (DATA_ERROR * deviation),
        ]
    )
    limit = deviation.copy()
    for name, largest in LARGEST_DEVIATION.items():
        limit[space.slice(name)] *= largest
    return lsq_linear(rows.T, wanted, (-limit, limit)).x.astype(np.float32)


def lip_parting(anatomy: Anatomy) -> Array:
    """What an emotion adds to the nine gaps of speaking lips (9,), canonical: an arc."""
    across = np.linspace(-1.0, 1.0, NUM_GAPS + 2)[1:-1]
    return _total(LIP_PARTING, anatomy.units) * (1.0 - across**2)


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


def _total(amounts: Mapping[int, float], units: Mapping[int, float]) -> float:
    return sum(amounts.get(unit, 0.0) * share for unit, share in units.items())


def _add_units(*tables: Mapping[int, float]) -> dict[str, Array]:
    """Named points -> sum of the offsets (2,) of all units, outward and down, in hundredths."""
    total: dict[str, Array] = {}
    for table in tables:
        for unit, share in table.items():
            for name, offset in ACTION_UNITS.get(unit, {}).items():
                total[name] = total.get(name, np.zeros(2)) + share * np.array(offset, np.float64)
    return total
