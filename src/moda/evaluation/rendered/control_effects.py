"""What does each control change? Talking frames with it, tracked again, beside those without.

A control that changes nothing here changes nothing that a viewer could see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moda.data.sync import correlation_at_lag
from moda.encoders.face import FaceModels
from moda.encoders.tracking import (
    blink_from_openness,
    gaze_offsets,
    lid_openness,
    remove_pose,
    track_frames,
)
from moda.evaluation.rendered.emotions import landmark_effects
from moda.media import VideoReader
from moda.pipeline import TalkingHead
from moda.structures import EMOTIONS, FRAMES_PER_SECOND, EmotionAt, Picture, Style
from moda.structures.landmarks import Array, euler_from_rotation, eye_distance, lip_gap

SIZE_PX = 256
DRIVING_SEED, DRIVING_HEAD_MOTION = 11, 2.0
"""The driving video is the first portrait with another seed and twice the head motion."""

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "seed 1": {"seed": 1},
    "head motion 0": {"head_motion": 0.0},
    "head motion 0.5": {"head_motion": 0.5},
    "head motion 2": {"head_motion": 2.0},
    "expression 0.5": {"expression": 0.5},
    "expression 1.5": {"expression": 1.5},
    "blink rate 0": {"blink_rate": 0.0},
    "blink rate 40": {"blink_rate": 40.0},
    "gaze camera": {"gaze": "camera"},
    "lips only": {"lips_only": True},
    "driving video": {"driving": True},
    "driving video, lips only": {"driving": True, "lips_only": True},
    **{
        f"{emotion} {intensity:g}": {"style": Style((EmotionAt(0.0, emotion, intensity),))}
        for emotion, intensity in (("happy", 0.5), *((name, 1.0) for name in EMOTIONS))
    },
}
"""Options of :meth:`TalkingHead.generate`; a driving video is filled in. The first is what the
others are compared with."""

MEASURES: Mapping[str, str] = {
    "head": "head, degrees",
    "lips": "lip opening, spread",
    "blinks": "blinks a minute",
    "gaze": "gaze, spread",
    "lip_agreement": "lips like default, r",
    "head_agreement": "head like driving, r",
    "corner_height": "mouth corners",
    "mouth_width": "mouth width",
    "inner_brow_height": "inner brows",
    "lid_opening": "lids",
}
"""Names and headings. The first four are standard deviations over time and a rate, the last four
changes of the mean face against the default; lengths in hundredths of the outer-eye distance."""


@dataclass(frozen=True)
class ControlEffects:
    """Measures by setting, means over the portraits."""

    values: dict[str, dict[str, float]]
    num_portraits: int
    seconds: float

    def markdown(self) -> str:
        """A table."""
        heading = " | ".join(MEASURES.values())
        lines = [f"| setting | {heading} |", f"|---|{'---|' * len(MEASURES)}"]
        for name, row in self.values.items():
            cells = [_cell(measure, row[measure]) for measure in MEASURES]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"


def control_effects(
    head: TalkingHead,
    models: FaceModels,
    portraits: Sequence[Path],
    speech: Path,
    folder: Path,
    *,
    watch: Callable[[str], None] = lambda text: None,
) -> ControlEffects:
    """Make each portrait speak with each setting, and measure the frames.

    Args:
        head: The model.
        models: What follows the face of the frames.
        portraits: Pictures with a face.
        speech: What they say.
        folder: For the driving video.
        watch: Told of every run.
    """
    driving = folder / "driving.mp4"
    options: dict[str, Any] = {"size": SIZE_PX, "full_frame": False}
    head.generate(
        portraits[0], speech, seed=DRIVING_SEED, head_motion=DRIVING_HEAD_MOTION, **options
    ).write(driving)
    guide = _track(VideoReader(driving), models)
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in SETTINGS}
    seconds = 0.0
    for portrait in portraits:
        default: Array | None = None
        for name, chosen in SETTINGS.items():
            given = {**options, **chosen}
            if given.get("driving"):
                given["driving"] = driving
            track = _track(head.generate(portrait, speech, **given).frames(), models)
            default = track if default is None else default
            rows[name].append(measure_control(track, default, guide))
            seconds = len(track) / FRAMES_PER_SECOND
            watch(f"{portrait.name}: {name}")
    means = {
        name: {
            measure: float(np.mean([values[measure] for values in measured]))
            for measure in MEASURES
        }
        for name, measured in rows.items()
    }
    return ControlEffects(means, len(portraits), seconds)


def measure_control(track: Array, default: Array, guide: Array) -> dict[str, float]:
    """Measures of :data:`MEASURES`.

    Args:
        track: (T, 478, 3) landmarks of the frames with a setting, px.
        default: (U, 478, 3) of those without.
        guide: (V, 478, 3) of the driving video.
    """
    reference = default[0] / eye_distance(default[0])
    faces, _, rotations, _ = remove_pose(track, reference)
    _, _, guiding, _ = remove_pose(guide, guide[0] / eye_distance(guide[0]))
    angles = _angles(rotations)
    lids = blink_from_openness(lid_openness(faces)).mean(1) > 0.5
    blinks = int((lids[1:] & ~lids[:-1]).sum())
    is_open = ~lids
    effects = landmark_effects(default, track)
    return {
        "head": float(np.sqrt((angles.std(0) ** 2).sum())),
        "lips": 100.0 * float(lip_gap(track).std()),
        "blinks": blinks / len(track) * FRAMES_PER_SECOND * 60.0,
        "gaze": 100.0 * float(np.sqrt((gaze_offsets(faces)[is_open].std(0) ** 2).sum())),
        "lip_agreement": correlation_at_lag(lip_gap(track), lip_gap(default), 0),
        "head_agreement": correlation_at_lag(angles[:, 1], _angles(guiding)[:, 1], 0),
        **{name: effects[name] for name in list(MEASURES)[-4:]},
    }


def _track(frames: Iterable[Picture], models: FaceModels) -> Array:
    return track_frames(frames, models).landmarks.astype(np.float64)


def _angles(rotations: Array) -> Array:
    """Pitch, yaw and roll (T, 3) in degrees, relative to the first frame."""
    relative = np.einsum("ji,tjk->tik", rotations[0], rotations)
    return np.array([euler_from_rotation(rotation) for rotation in relative])


def _cell(measure: str, value: float) -> str:
    if measure == "blinks":
        return f"{value:.0f}"
    if measure in ("head", "lips", "gaze", "lip_agreement", "head_agreement"):
        return f"{value:.2f}"
    return f"{value:+.1f}"
