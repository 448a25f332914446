"""The report on a motion model: every figure with the rows that give it meaning beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from moda.checkpoints import Checkpoint
from moda.data.clips import PreparedClip
from moda.data.sync import SyncClip, estimate_lags
from moda.errors import InputError
from moda.evaluation.lips import (
    HeldOutClip,
    LipScore,
    baselines,
    held_out_clips,
    mean_identity,
    sampled_lips,
    score,
    silence_report,
    whole_speech,
)
from moda.evaluation.metrics import blinks_per_minute, border_jump, drift, pose_steps
from moda.landmarks import Array
from moda.structures import FRAMES_PER_SECOND, Floats, Motion, Speech

LONG_MINUTES = 10.0


@dataclass(frozen=True)
class LongMotion:
    """What minutes of motion look like."""

    minutes: float
    blinks_per_minute: float
    border_step_degrees: float
    """largest change of the head's angles from frame to frame where windows join"""
    other_step_degrees: float
    """and elsewhere"""
    head_spread_degrees: float
    """mean standard deviation of pitch, yaw and roll"""
    drift: float
    """largest distance of a minute's mean pose from the mean, in standard deviations"""
    seed_spread_degrees: float
    """mean distance of the head's angles under another seed"""
    seed_lip_correlation: float
    """of the lip gaps under another seed"""


@dataclass(frozen=True)
class ModelReport:
    """All figures of one model."""

    lips: list[LipScore]
    silence_closed: float
    silence_frames: int
    long: LongMotion
    speakers: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """The report as text."""
        long = self.long
        lines = [
            f"Held-out speakers ({len(self.speakers)}): {', '.join(self.speakers)}.",
            "",
            "| method | lip gap r | lip width r | gap spread | width spread |",
            "|---|---|---|---|---|",
            *(row.row() for row in self.lips),
            "",
            f"Lips closed in {self.silence_closed:.1%} of {self.silence_frames} silent frames.",
            "",
            f"{long.minutes:.0f} minutes of motion: {long.blinks_per_minute:.1f} blinks a minute; "
            f"largest step of the head {long.border_step_degrees:.2f} degrees where windows join, "
            f"{long.other_step_degrees:.2f} elsewhere; head spread "
            f"{long.head_spread_degrees:.2f} degrees; drift {long.drift:.2f} standard deviations; "
            f"another seed moves the head {long.seed_spread_degrees:.2f} degrees away and keeps "
            f"the lips at r {long.seed_lip_correlation:.3f}.",
        ]
        return "\n".join(lines) + "\n"

    def write(self, path: Path) -> None:
        """JSON to ``path`` and Markdown beside it."""
        path.write_text(json.dumps(asdict(self), indent=1))
        path.with_suffix(".md").write_text(self.markdown())


def evaluate_model(
    checkpoint: Checkpoint,
    clips: Sequence[PreparedClip],
    speakers: Sequence[str],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    say: Callable[[str], None] = lambda text: None,
) -> ModelReport:
    """Evaluate on held-out speakers; the other clips fit the linear map.

    Raises:
        InputError: no clip with speech belongs to the speakers.
    """
    held_out = held_out_clips(clips, speakers)
    if not held_out:
        raise InputError(
            f"no clip with speech of {', '.join(speakers) or 'any speaker'}; "
            f"there are {', '.join(sorted({clip.speaker for clip in clips}))}"
        )
    identity = mean_identity(checkpoint.space)
    say("sampling the held-out clips")
    rows = _sampled_rows(checkpoint, held_out, identity, seeds)
    say("fitting the linear map")
    rows += baselines(held_out, _training_lips(clips, speakers))
    say("silences")
    others = [clip.sound for clip in clips if clip.has_speech]
    closed, frames = silence_report(checkpoint, [*others, *_with_pauses(others)], identity)
    say("ten minutes of motion")
    return ModelReport(
        lips=rows,
        silence_closed=closed,
        silence_frames=frames,
        long=long_motion(checkpoint, others, identity),
        speakers=sorted(set(speakers)),
    )


def _sampled_rows(
    checkpoint: Checkpoint, clips: Sequence[HeldOutClip], identity: Floats, seeds: Sequence[int]
) -> list[LipScore]:
    """Sampled motion of every seed, their mean, and the motion of another clip's sound."""

    def lips(clip: HeldOutClip, speech: Speech, seed: int) -> tuple[Array, Array]:
        gap, width, _ = sampled_lips(checkpoint, speech, seed=seed, identity=identity)
        return gap, width

    rows = [
        score(f"sampled, seed {seed}", clips, lambda clip, s=seed: lips(clip, clip.speech, s))  # type: ignore[misc]
        for seed in seeds
    ]
    gaps = np.array([row.gap for row in rows])
    mean = LipScore(
        f"sampled, mean of {len(rows)} seeds (gap spread {gaps.std():.3f})",
        gap=float(gaps.mean()),
        width=float(np.mean([row.width for row in rows])),
        gap_spread=float(np.mean([row.gap_spread for row in rows])),
        width_spread=float(np.mean([row.width_spread for row in rows])),
        per_clip={},
    )
    joined = np.concatenate([clip.speech.features for clip in clips])
    active = np.concatenate([clip.speech.activity for clip in clips])
    starts = np.cumsum([0, *(len(clip.speech) for clip in clips)])
    shift = len(joined) // 2
    rolled = {
        clip.name: Speech(
            np.roll(joined, shift, axis=0)[start : start + len(clip.speech)],
            np.roll(active, shift)[start : start + len(clip.speech)],
        )
        for clip, start in zip(clips, starts[:-1], strict=True)
    }
    other = score("another clip's sound", clips, lambda clip: lips(clip, rolled[clip.name], 0))
    return [*rows, mean, other]


def _training_lips(
    clips: Sequence[PreparedClip], speakers: Sequence[str]
) -> list[tuple[Floats, Array, float]]:
    own = held_out_clips(clips, sorted({clip.speaker for clip in clips} - set(speakers)))
    names = {clip.name: clip.speaker for clip in clips}
    lips = {clip.name: np.stack([clip.gap, clip.width], axis=1) for clip in own}
    lags = estimate_lags(
        [
            SyncClip(
                clip.name,
                names[clip.name],
                clip.speech.features[: clip.num_frames],
                lips[clip.name][: clip.num_frames],
            )
            for clip in own
        ]
    )
    return [
        (
            clip.speech.features[: clip.num_frames],
            lips[clip.name][: clip.num_frames],
            float(lags[clip.name]),
        )
        for clip in own
    ]


def _with_pauses(sounds: Sequence[Floats]) -> list[Floats]:
    """Recordings with a second of digital silence after every three seconds."""
    pause = np.zeros(16_000, np.float32)
    result = []
    for sound in sounds:
        pieces = [sound[start : start + 48_000] for start in range(0, len(sound), 48_000)]
        result.append(np.concatenate([part for piece in pieces for part in (piece, pause)]))
    return result


def long_motion(checkpoint: Checkpoint, sounds: Sequence[Floats], identity: Floats) -> LongMotion:
    """Ten minutes of motion from recordings played one after the other, over and over."""
    wanted = int(LONG_MINUTES * 60 * 16_000)
    joined = np.concatenate(list(sounds))
    speech = whole_speech(np.tile(joined, -(-wanted // len(joined)))[:wanted])
    gap, _, motion = sampled_lips(checkpoint, speech, seed=0, identity=identity)
    two_minutes = int(2 * 60 * FRAMES_PER_SECOND)
    start = Speech(speech.features[:two_minutes], speech.activity[:two_minutes])
    other_gap, _, other = sampled_lips(checkpoint, start, seed=1, identity=identity)
    model = checkpoint.config.motion
    border, elsewhere = border_jump(pose_steps(motion), model.stride, model.overlap)
    return LongMotion(
        minutes=len(motion) / FRAMES_PER_SECOND / 60.0,
        blinks_per_minute=blinks_per_minute(motion.part("blink")[:, 0]),
        border_step_degrees=border,
        other_step_degrees=elsewhere,
        head_spread_degrees=float(head_angles(motion).std(0).mean()),
        drift=drift(head_angles(motion)),
        seed_spread_degrees=float(
            np.linalg.norm(head_angles(motion)[: len(other)] - head_angles(other), axis=1).mean()
        ),
        seed_lip_correlation=float(np.corrcoef(gap[: len(other_gap)], other_gap)[0, 1]),
    )


def head_angles(motion: Motion) -> Array:
    """(T, 3) pitch, yaw and roll in degrees."""
    parts = [motion.part(name) for name in ("pitch", "yaw", "roll")]
    return np.concatenate(parts, axis=1).astype(np.float64)
