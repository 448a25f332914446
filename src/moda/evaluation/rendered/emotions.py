"""Does an emotion show? The faces of two videos, tracked again and compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter1d

from moda.encoders.tracking import remove_pose
from moda.errors import InputError
from moda.motion.rules.emotion import CHANGE_SECONDS
from moda.structures import FRAMES_PER_SECOND, EmotionAt
from moda.structures.landmarks import (
    INNER_LIP_LOWER,
    INNER_LIP_UPPER,
    MOUTH_CORNERS,
    Array,
    eye_distance,
    lip_gap,
)

INNER_BROWS = ((107, 55), (336, 285))
OUTER_BROWS = ((70, 46), (300, 276))
"""Upper and lower edge of the brow, right and left"""
UPPER_LIDS, LOWER_LIDS = (160, 159, 158, 387, 386, 385), (144, 145, 153, 373, 374, 380)

SMOOTH_FRAMES = 9


class SpanEffect(NamedTuple):
    """What one entry of an emotion schedule did to the frames it is in force for."""

    entry: EmotionAt
    end_seconds: float
    effects: dict[str, float]
    """Of :func:`landmark_effects`, once the change is over"""
    turned_seconds: float | None
    """When the corners of the mouth were halfway from the span before, after the entry's time; None
    for the first span, and where the two do not differ"""


def landmark_effects(neutral: Array, emotional: Array) -> dict[str, float]:
    """Differences of the mean face measures of two tracks, in hundredths of the outer-eye distance.

    Heights go up and are those of the pose-free face, so that a nod is no raised brow. The corners
    are measured against the middle of the lips: a smile is their curve, not where the mouth is.

    Args:
        neutral: (T, 478, 3) pixels.
        emotional: (U, 478, 3) pixels.

    Returns:
        ``mouth_width``, ``corner_height``, ``corner_slant`` (left corner above the right one),
        ``inner_brow_height``, ``outer_brow_height``, ``brow_distance``, ``lid_opening``,
        ``lip_gap``.

    Raises:
        InputError: a track is empty.
    """
    if not len(neutral) or not len(emotional):
        raise InputError("there are no faces to compare; give at least one of each")
    reference = neutral[0] / eye_distance(neutral[0])
    faces = [remove_pose(track, reference)[0] for track in (neutral, emotional)]
    unit = float(np.median(eye_distance(faces[0])))
    before, after = (_measures(face) for face in faces)
    return {name: 100.0 * (after[name] - before[name]) / unit for name in before}


def gap_spread(neutral: Array, emotional: Array) -> float:
    """How far an emotion lets the lips go in speech: spread of their gap over that without it.

    Args:
        neutral: (T, 478, 3) pixels, speaking.
        emotional: (U, 478, 3) pixels, saying the same.

    Raises:
        InputError: a track is empty, or the lips without the emotion do not move.
    """
    if not len(neutral) or not len(emotional):
        raise InputError("there are no faces to compare; give at least one of each")
    spread, reference = (float(lip_gap(track).std()) for track in (emotional, neutral))
    if reference == 0.0:
        raise InputError("the lips do not move without the emotion; give frames of speech")
    return spread / reference


def eye_opening(faces: Array) -> float:
    """Mean height between the lids (T, 478, 3), in outer-eye distances, as the eyes lie."""
    heights = faces[:, list(LOWER_LIDS), :2] - faces[:, list(UPPER_LIDS), :2]
    openings = np.linalg.norm(heights, axis=-1).mean(1) / eye_distance(faces)
    return float(openings.mean())


def schedule_effects(
    plain: Array, tagged: Array, schedule: Sequence[EmotionAt]
) -> list[SpanEffect]:
    """Whether a video's emotions follow their schedule, span by span.

    Args:
        plain: (T, 478, 3) pixels, the same speech without emotions, at 25 fps.
        tagged: (T, 478, 3) pixels, with them.
        schedule: in the order of time; what the video was asked for.

    Raises:
        InputError: the tracks differ in length, or a span is over before its change is.
    """
    if len(plain) != len(tagged):
        raise InputError(f"tracks of {len(plain)} and {len(tagged)} frames cannot be compared")
    ends = [entry.seconds for entry in schedule[1:]] + [len(plain) / FRAMES_PER_SECOND]
    spans = []
    for entry, end in zip(schedule, ends, strict=True):
        begin, stop = (round(at * FRAMES_PER_SECOND) for at in (entry.seconds, end))
        settled = begin + round(CHANGE_SECONDS * FRAMES_PER_SECOND) if begin else 0
        if settled >= stop:
            raise InputError(
                f"the emotion at {entry.seconds:.2f} s lasts {end - entry.seconds:.2f} s; "
                f"give it more than {CHANGE_SECONDS} s"
            )
        effects = landmark_effects(plain[settled:stop], tagged[settled:stop])
        spans.append(SpanEffect(entry, end, effects, None))
    course = _corner_course(plain, tagged)
    for index in range(1, len(spans)):
        before, after = (each.effects["corner_height"] for each in spans[index - 1 : index + 1])
        begin = round(spans[index].entry.seconds * FRAMES_PER_SECOND)
        turn = _first_crossing(course[begin:], 0.5 * (before + after), after > before)
        if turn is not None and before != after:
            spans[index] = spans[index]._replace(turned_seconds=turn / FRAMES_PER_SECOND)
    return spans


def _corner_course(plain: Array, tagged: Array) -> Array:
    """Difference of the height of the mouth's corners (T,), smooth, in the unit of the effects."""
    frames = range(len(plain))
    raw = np.array(
        [
            landmark_effects(plain[index : index + 1], tagged[index : index + 1])["corner_height"]
            for index in frames
        ]
    )
    return uniform_filter1d(raw, SMOOTH_FRAMES, mode="nearest")


def _first_crossing(course: Array, level: float, is_rising: bool) -> int | None:
    passed = np.flatnonzero((course > level) if is_rising else (course < level))
    return int(passed[0]) if len(passed) else None


def _measures(faces: Array) -> dict[str, float]:
    """Mean measures of pose-free faces (T, 478, 3) in their own unit."""
    mean: Array = faces.mean(0)
    right, left = mean[list(MOUTH_CORNERS)]
    lips = mean[[INNER_LIP_UPPER[5], INNER_LIP_LOWER[5]]]
    inner, outer = (mean[np.array(points)].mean(1) for points in (INNER_BROWS, OUTER_BROWS))
    return {
        "mouth_width": float(left[0] - right[0]),
        "corner_height": float(lips[:, 1].mean() - 0.5 * (left[1] + right[1])),
        "corner_slant": float(right[1] - left[1]),
        "inner_brow_height": float(-inner[:, 1].mean()),
        "outer_brow_height": float(-outer[:, 1].mean()),
        "brow_distance": float(inner[1, 0] - inner[0, 0]),
        "lid_opening": float((mean[list(LOWER_LIDS), 1] - mean[list(UPPER_LIDS), 1]).mean()),
        "lip_gap": float(lips[1, 1] - lips[0, 1]),
    }
