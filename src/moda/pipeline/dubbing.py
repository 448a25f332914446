"""Video as source: new lips on existing footage.

Head, eyes, brows and light stay those of the footage; the mouth says what is in the new speech.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import savgol_filter

from moda.encoders.face import FaceLandmarks, FaceTracker
from moda.encoders.portrait import close_mouth, crop_around, map_points
from moda.encoders.tracking import estimate_neutral, lid_openness, remove_pose
from moda.errors import FaceError, InputError
from moda.media import AudioReader, VideoReader, exact_rate
from moda.motion.rules.retiming import TimedMotion, retime_motion
from moda.options import MotionAmounts, SpeakingOptions, require_range
from moda.phones import PhoneSegment
from moda.pipeline.talking_head import TalkingHead
from moda.pipeline.talking_video import Progress, TalkingVideo
from moda.rendering.mesh.complexion import measure_palette
from moda.rendering.mesh.footage import FootageRenderer
from moda.rendering.mesh.teeth import seen_tooth_colour
from moda.speech_synthesis import SpokenText
from moda.structures import Floats, Motion, Picture, Portrait
from moda.structures.landmarks import (
    INNER_LIP_LOWER,
    INNER_LIP_UPPER,
    NUM_LANDMARKS,
    STABLE,
    Array,
    eased_gap,
    eye_distance,
    fit_similarity,
    identity_vector,
    lip_gap,
)
from moda.structures.words import TimedWord
from moda.systems.embedded import EmbeddedSystem
from moda.systems.protocol import Actor

MAX_FOOTAGE_SECONDS = 1200.0
"""All of it is looked at before the face at rest is known."""
LONGER_SPEECH_SECONDS = 0.5
"""So much speech beyond the end of the footage is cut off."""
SMOOTHING_SECONDS = 0.2
"""Of the landmarks, over time: their noise would make the mouth tremble."""
CLOSED_PERCENTILE, LARGEST_CLOSED_GAP = 5.0, 0.03
"""Trackers see a gap between closed lips. It is this percentile of a video's gaps, unless that is
larger: then the lips never meet, and nothing is known."""
NO_GAP = 1e-9
RELEASE = 2.5
"""Gaps of so many times the closed one are right."""
FRAMES_WITH_TEETH = 9
"""Of the widest open mouths, in which the colour of the teeth is looked for."""
MIN_FRAMES_WITH_FACE = 3
FADE_FRAMES = 4
"""New lips come and go over this many frames where the face is lost and found."""


class TrackedFace(NamedTuple):
    """The face of a video at its own rate."""

    landmarks: Array  # (T, 478, 3) px, smooth, interpolated where it was not found
    share: Floats
    """(T,) 0..1 how much of the new lips is shown: 0 where there is no face"""
    neutral: Array  # (478, 3) canonical, with a mouth at rest
    reference: int
    """A frame with a closed mouth, seen from the front"""
    person: Array  # (478, 3) canonical, on which poses are fitted


def dub(
    head: TalkingHead,
    footage: str | Path,
    speech: str | Path | SpokenText,
    *,
    seed: int | None = None,
    expression: float = 1.0,
    phones: tuple[PhoneSegment, ...] = (),
    progress: Progress | None = None,
) -> TalkingVideo:
    """Give the face in a video the lips of another speech.

    The video keeps its length, size and frame rate; its sound is replaced. Its motion is that of
    the lips alone.

    Args:
        head: A model of the mesh renderer.
        footage: Video of one face, seen more or less from the front.
        speech: Recording, or a text that has been spoken or aligned.
        seed: As in :meth:`TalkingHead.generate`; lips hardly depend on it.
        expression: Amount of the mouth's motion, 0..2.
        phones: What is said, where it is known.
        progress: Called while the footage is tracked.

    Raises:
        InputError: The model has no mesh, the speech is longer than the footage, or an option is
            outside its limits.
        MediaError: A file cannot be read.
        FaceError: The footage shows no face.
    """
    system = head.system
    if not isinstance(system, EmbeddedSystem):
        raise InputError("only the mesh renderer can dub; leave the model out, or use moda-tiny")
    words: tuple[TimedWord, ...] = ()
    if isinstance(speech, SpokenText):
        words, phones, speech = speech.words, phones or speech.phones, speech.path
    sound = AudioReader(speech, 16_000)
    probe = VideoReader(footage)
    rate = float(min(max(probe.native_rate, 10.0), 60.0))
    video = VideoReader(footage, rate)
    require_range("length of the footage in s", video.duration_seconds, 0.0, MAX_FOOTAGE_SECONDS)
    if sound.duration_seconds > video.duration_seconds + LONGER_SPEECH_SECONDS:
        raise InputError(
            f"the speech lasts {sound.duration_seconds:.1f} s, the footage only "
            f"{video.duration_seconds:.1f} s; use more footage, or shorter speech"
        )
    face = track_face(video, system, progress)
    gaps = np.where(face.share > 0.0, lip_gap(face.landmarks), 0.0)
    widest = np.argsort(gaps)[-FRAMES_WITH_TEETH:].tolist()
    pictures = _pictures(video, {face.reference, *widest})
    portrait = _reference(pictures[face.reference], face, system)
    teeth = _tooth_colour([(pictures[index], face.landmarks[index]) for index in widest])
    options = SpeakingOptions(
        seed=seed,
        blink=False,
        lips_only=True,
        amounts=MotionAmounts(1.0, expression),
        phones=phones,
    )
    drawing = FootageRenderer(portrait, system.space, teeth)
    actor = Actor(drawing, identity_vector(face.neutral), system.space.rest)
    length = Fraction(len(face.share)) / exact_rate(rate)

    def motion() -> Iterator[Motion]:
        spoken = system.speak(actor, _padded(sound, length), options)
        yield from retime_motion(TimedMotion(spoken, lambda: length), exact_rate(rate))

    width, height = video.size
    return TalkingVideo(
        (width // 2 * 2, height // 2 * 2),
        rate,
        len(face.share),
        sound.path,
        (video.path, sound.path),
        motion,
        lambda: _dubbed(video, face, drawing, motion()),
        words,
        made_from="a video whose lips were changed",
    )


def _dubbed(
    footage: VideoReader, face: TrackedFace, drawing: FootageRenderer, motion: Iterator[Motion]
) -> Iterator[Picture]:
    """Frames (H, W, 3) of the footage with lips that move as ``motion``."""
    rows = (row for stretch in motion for row in stretch.values)
    row: Floats | None = None
    for index, picture in enumerate(_even(footage)):
        row = next(rows, row)
        if index >= len(face.share) or face.share[index] == 0.0 or row is None:
            yield picture
            continue
        landmarks = face.landmarks[index]
        stable = list(STABLE)
        pose = fit_similarity(face.person[stable], landmarks[stable])
        drawn = drawing.draw(picture, landmarks, pose, face.neutral, row)
        share = face.share[index]
        if share < 1.0:
            mixed = picture + share * (drawn.astype(np.float32) - picture)
            drawn = np.round(mixed).astype(np.uint8)
        yield drawn


def track_face(
    video: VideoReader, system: EmbeddedSystem, progress: Progress | None = None
) -> TrackedFace:
    """Follow the face through a video and find out what it looks like at rest.

    Raises:
        FaceError: Fewer than three pictures show a face.
    """
    tracker = FaceTracker(system.models)
    missing = np.full((NUM_LANDMARKS, 3), np.nan, np.float32)
    found = []
    expected = round(video.duration_seconds * video.frames_per_second)
    for count, picture in enumerate(_even(video), start=1):
        face = tracker.track(picture)
        found.append(missing if face is None else face.points.astype(np.float32))
        if progress is not None:
            progress(count, max(count, expected))
    points = np.stack(found).astype(np.float64) if found else np.zeros((0, NUM_LANDMARKS, 3))
    seen = np.isfinite(points[:, 0, 0])
    if seen.sum() < MIN_FRAMES_WITH_FACE:
        raise FaceError(
            f"only {int(seen.sum())} pictures of {video.path} show a face; use footage that does"
        )
    tracked = _bridge(points, seen)
    landmarks = meet_lips(_smooth(tracked, video.frames_per_second), tracked, seen)
    space = system.space
    assert space.canonical_face is not None
    canonical = space.canonical_face.astype(np.float64)
    person = np.median(remove_pose(landmarks[seen], canonical)[0], axis=0)
    faces, _, rotations, _ = remove_pose(landmarks[seen], person)
    neutral = close_mouth(estimate_neutral(faces, lid_openness(faces).mean(1)), space)
    turned = 1.0 - rotations[:, 2, 2]
    reference = int(np.flatnonzero(seen)[np.argmin(lip_gap(faces) + 0.2 * turned)])
    return TrackedFace(landmarks, _shares(seen), neutral, reference, person)


def _reference(picture: Picture, face: TrackedFace, system: EmbeddedSystem) -> Portrait:
    """The reference frame as a portrait, with the landmarks that have been tracked."""
    landmarks = face.landmarks[face.reference]
    crop_image, crop_from_image = crop_around(picture, FaceLandmarks(landmarks, 1.0))
    crop_landmarks = map_points(crop_from_image, landmarks)
    stable = list(STABLE)
    pose = fit_similarity(face.person[stable], crop_landmarks[stable])
    keypoints = pose.invert(crop_landmarks)
    return Portrait(
        image=picture,
        landmarks=landmarks,
        crop_image=crop_image,
        crop_from_image=crop_from_image,
        crop_landmarks=crop_landmarks,
        person_mask=system.models.person_mask(crop_image),
        pose=pose,
        canonical_keypoints=keypoints,
        neutral_keypoints=close_mouth(keypoints, system.space),
    )


def _tooth_colour(frames: Iterable[tuple[Picture, Array]]) -> Floats | None:
    """Colour (3,) of the teeth in pictures with landmarks (478, 3); None where none are seen."""
    colours = [
        seen_tooth_colour(
            picture, points, float(eye_distance(points)), measure_palette(picture, points)
        )
        for picture, points in frames
    ]
    found = [colour for colour in colours if colour is not None]
    return np.median(found, axis=0).astype(np.float32) if found else None


def _pictures(video: VideoReader, indices: set[int]) -> dict[int, Picture]:
    """Some frames of a video by their number, read in one go."""
    frames = enumerate(islice(_even(video), max(indices) + 1))
    return {index: picture for index, picture in frames if index in indices}


def _even(video: VideoReader) -> Iterator[Picture]:
    """Pictures with even sides, as encoders want them."""
    width, height = video.size
    for picture in video:
        yield np.ascontiguousarray(picture[: height // 2 * 2, : width // 2 * 2])


def _bridge(points: Array, seen: NDArray[np.bool_]) -> Array:
    """Landmarks (T, 478, 3) interpolated on lines where the face was not seen."""
    frames = np.arange(len(points))
    flat = points.reshape(len(points), -1).copy()
    known = flat[seen]
    places = np.interp(frames, frames[seen], np.arange(len(known)))
    before = np.floor(places).astype(int)
    after = np.minimum(before + 1, len(known) - 1)
    part = (places - before)[:, None]
    bridged: Array = known[before] * (1.0 - part) + known[after] * part
    return bridged.reshape(points.shape)


def _smooth(landmarks: Array, frames_per_second: float) -> Array:
    window = round(SMOOTHING_SECONDS * frames_per_second) | 1
    if window < 5 or len(landmarks) < window:
        return landmarks
    return savgol_filter(landmarks, window, 2, axis=0)


def meet_lips(smooth: Array, tracked: Array, seen: NDArray[np.bool_]) -> Array:
    """Open the lips of smooth landmarks as far as they are, and close them where they touch.

    Lips open faster than landmarks may tremble, so their distance is that of the single frame,
    less the gap that the tracker sees between closed lips.

    Args:
        smooth: (T, 478, 3) px.
        tracked: (T, 478, 3) px as they were found.
        seen: (T,) frames that tell how the tracker sees this mouth.
    """
    upper, lower = list(INNER_LIP_UPPER[1:-1]), list(INNER_LIP_LOWER[1:-1])
    apart = tracked[:, lower] - tracked[:, upper]
    gaps = np.linalg.norm(apart[..., :2], axis=-1) / eye_distance(tracked)[:, None]
    closed = np.percentile(gaps[seen], CLOSED_PERCENTILE, axis=0)
    closed = np.where(closed > LARGEST_CLOSED_GAP, 0.0, closed) + NO_GAP
    wanted = eased_gap(gaps, closed, RELEASE * closed)
    half = 0.5 * apart * (wanted / np.maximum(gaps, NO_GAP))[..., None]
    middle = 0.5 * (smooth[:, upper] + smooth[:, lower])
    met = smooth.copy()
    met[:, upper], met[:, lower] = middle - half, middle + half
    return met


def _shares(seen: NDArray[np.bool_]) -> Floats:
    """(T,) how much of the new lips is shown, fading in and out around frames without a face."""
    unseen = np.flatnonzero(~seen)
    if not len(unseen):
        return np.ones(len(seen), np.float32)
    frames = np.arange(len(seen))
    distance = np.abs(frames[:, None] - unseen[None]).min(1)
    return np.clip(distance / FADE_FRAMES, 0.0, 1.0).astype(np.float32)


def _padded(sound: AudioReader, length: Fraction) -> Iterator[Floats]:
    """The samples of a recording, cut or filled with silence to a length."""
    missing = math.ceil(length * sound.sample_rate)
    for chunk in sound:
        yield chunk[:missing]
        missing -= len(chunk[:missing])
        if missing <= 0:
            return
    while missing > 0:
        silence = min(missing, sound.sample_rate)
        yield np.zeros(silence, np.float32)
        missing -= silence
