"""A whole evaluation: every clip, every row, every metric."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from moda.encoders.face import FaceModels
from moda.encoders.tracking import track_frames
from moda.errors import InputError
from moda.evaluation.rendered.emotions import landmark_effects
from moda.evaluation.videos.generation import make_video_apart
from moda.evaluation.videos.measuring import Measured, measure_video
from moda.evaluation.videos.motion import head_diversity
from moda.evaluation.videos.networks.learned import Absent, Scorer, available_scorers
from moda.evaluation.videos.protocol import (
    ROW_NAMES,
    OpenProtocol,
    Protocol,
    check_inputs,
    used_versions,
    version_mismatches,
)
from moda.evaluation.videos.references import Reference, prepare_reference
from moda.evaluation.videos.rows import (
    Make,
    RowVideo,
    emotion_video,
    file_frames,
    method_rows,
    safe_name,
    usual_rows,
)
from moda.evaluation.videos.side_by_side import write_poster, write_side_by_side
from moda.structures import Floats, MotionSpace
from moda.structures.landmarks import Array
from moda.weights.spaces import load_motion_space

Say = Callable[[str], None]
Effects = dict[str, dict[str, float]]
"""By emotion: what it changes on the face, see
:func:`moda.evaluation.rendered.emotions.landmark_effects`"""

WORK, CLIPS = "work", "clips"
"""Folders inside the report: inputs and made videos; side-by-side clips."""


@dataclass(frozen=True)
class ClipFacts:
    """One clip as it was evaluated."""

    name: str
    seconds: float
    size: tuple[int, int]
    source_index: int | None
    """frame of the real video that is the portrait"""
    has_real: bool
    has_phones: bool
    side_by_side: str
    """file inside the report's folder"""
    samples: Floats = field(repr=False)


@dataclass(frozen=True)
class Evaluation:
    """Everything that was found out."""

    protocol: Protocol
    versions: dict[str, str]
    machine: str
    rows: list[str]
    clips: list[ClipFacts]
    measured: list[Measured]
    of_rows: dict[str, dict[str, float]]
    """figures of all videos of a row together"""
    emotions: dict[str, Effects]
    absent: list[Absent]
    notes: list[str]


def evaluate_videos(
    opened: OpenProtocol,
    folder: Path,
    *,
    any_versions: bool = False,
    make: Make = make_video_apart,
    scorers: Sequence[Scorer] | None = None,
    say: Say = lambda text: None,
) -> Evaluation:
    """Run a protocol; videos that are made, and those to be looked at, go into ``folder``.

    Args:
        opened: the protocol.
        folder: of the report; it is there.
        any_versions: go on with other versions than the protocol fixes, and say so in the report.
        make: how videos of this package's models are made.
        scorers: learned metrics; None: all whose weights are here.
        say: told what is going on.

    Raises:
        InputError: a file or version is not what the protocol says, or a video is missing.
        FaceError: a video shows no face.
        MediaError: a file cannot be read.
    """
    protocol = opened.protocol
    notes = version_mismatches(protocol)
    if notes and not any_versions:
        raise InputError(
            f"{'; '.join(notes)}; install those, or add --any-versions: the numbers may differ"
        )
    check_inputs(opened)
    absent: list[Absent] = []
    if scorers is None:
        scorers, absent = available_scorers()
    models, space = FaceModels(), load_motion_space()
    (folder / CLIPS).mkdir(parents=True, exist_ok=True)
    measured: list[Measured] = []
    facts: list[ClipFacts] = []
    emotions: dict[str, Effects] = {}
    for clip in protocol.clips:
        say(f"clip {clip.name}: inputs")
        work = folder / WORK / safe_name(clip.name)
        reference = prepare_reference(opened, clip, work, models)
        shown: list[RowVideo] = []
        for video in _all_rows(opened, reference, work, models, space, make, say):
            seed = "" if video.seed is None else f", seed {video.seed}"
            say(f"clip {clip.name}: measuring {video.row}{seed}")
            measured.append(measure_video(video, reference, models, scorers))
            if video.seed in (None, protocol.seeds[0]):
                shown.append(video)
        say(f"clip {clip.name}: side by side")
        target = folder / CLIPS / f"{safe_name(clip.name)}.mp4"
        write_side_by_side(target, shown, reference)
        write_poster(target.with_suffix(".png"), shown, reference.num_frames)
        facts.append(_facts(reference, f"{CLIPS}/{target.name}"))
        if clip.name == protocol.emotions.clip:
            emotions = _emotions(opened, reference, work, models, make, say)
    rows = [*ROW_NAMES, *(method.name for method in protocol.methods)]
    return Evaluation(
        protocol,
        used_versions(),
        f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        rows,
        facts,
        measured,
        of_rows(rows, measured, scorers),
        emotions,
        [*absent, *(entry for scorer in scorers for entry in scorer.left_out())],
        notes,
    )


def of_rows(
    rows: Sequence[str], measured: Sequence[Measured], scorers: Sequence[Scorer]
) -> dict[str, dict[str, float]]:
    """Figures that several videos have together: diversity over seeds, Fréchet distances."""
    found: dict[str, dict[str, float]] = {row: {} for row in rows}
    for row in rows:
        by_clip: dict[str, list[Array]] = {}
        for video in measured:
            if video.row == row and video.seed is not None:
                by_clip.setdefault(video.clip, []).append(video.angles)
        apart = [head_diversity(videos) for videos in by_clip.values() if len(videos) > 1]
        if apart:
            found[row]["head_diversity"] = float(sum(apart) / len(apart))
    for scorer in scorers:
        for row, figures in scorer.of_rows().items():
            found[row] |= figures
    return found


def write_inputs(opened: OpenProtocol, folder: Path, say: Say = lambda text: None) -> list[Path]:
    """Write what the methods are given, one folder a clip: portrait.png, speech.wav, real.mp4."""
    check_inputs(opened)
    models, written = FaceModels(), []
    for clip in opened.protocol.clips:
        say(f"clip {clip.name}")
        target = folder / safe_name(clip.name)
        prepare_reference(opened, clip, target, models)
        written.append(target)
    return written


def _all_rows(
    opened: OpenProtocol,
    reference: Reference,
    work: Path,
    models: FaceModels,
    space: MotionSpace,
    make: Make,
    say: Say,
) -> Iterator[RowVideo]:
    yield from usual_rows(reference, work, models, space)
    for method in opened.protocol.methods:
        if method.model:
            say(f"clip {reference.name}: making the videos of {method.name}")
        yield from method_rows(opened, method, reference, work, make)


def _facts(reference: Reference, side_by_side: str) -> ClipFacts:
    return ClipFacts(
        reference.name,
        reference.seconds,
        reference.size,
        reference.source_index,
        reference.real is not None,
        reference.labels is not None,
        side_by_side,
        reference.samples,
    )


def _emotions(
    opened: OpenProtocol,
    reference: Reference,
    work: Path,
    models: FaceModels,
    make: Make,
    say: Say,
) -> dict[str, Effects]:
    """Each emotion of each method against its neutral video."""
    found: dict[str, Effects] = {}
    for method in opened.protocol.methods:
        say(f"clip {reference.name}: emotions of {method.name}")
        neutral = emotion_video(opened, method, reference, "neutral", work, make)
        if neutral is None:
            continue
        calm = track_frames(file_frames(neutral)(), models)
        effects: Effects = {}
        for emotion in opened.protocol.emotions.emotions:
            path = emotion_video(opened, method, reference, emotion, work, make)
            assert path is not None
            moved = track_frames(file_frames(path)(), models)
            effects[emotion] = landmark_effects(
                calm.landmarks.astype(float), moved.landmarks.astype(float)
            )
        found[method.name] = effects
    return found
