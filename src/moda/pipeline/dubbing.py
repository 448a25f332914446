"""Video as source: new lips on existing footage.

Head, eyes, brows and light stay those of the footage; the mouth says what is in the new speech.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np

from moda.encoders.covering import is_mouth_covered
from moda.encoders.face import FaceLandmarks
from moda.encoders.footage import FilmFaces, Shot, track_shots
from moda.encoders.portrait import close_mouth, crop_around, map_points
from moda.encoders.speech import SAMPLE_RATE_HZ
from moda.errors import FaceError, InputError
from moda.media import AudioReader, VideoReader, exact_rate
from moda.media.containers import check_seconds
from moda.motion.rules.retiming import TimedMotion, retime_motion
from moda.options import MotionAmounts, SpeakingOptions, require_range
from moda.phones import PhoneSegment
from moda.pipeline.talking_head import HeardRecording, TalkingHead
from moda.pipeline.talking_video import Progress, TalkingVideo
from moda.rendering.mesh.complexion import measure_palette
from moda.rendering.mesh.footage import FootageRenderer
from moda.rendering.mesh.teeth import seen_tooth_colour
from moda.speech_synthesis import SpokenText
from moda.structures import Floats, Motion, Picture, Portrait
from moda.structures.landmarks import (
    STABLE,
    Array,
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
LONGEST_UNSAID_SECONDS = 0.5
"""So much footage without new lips is worth a word."""
COVERING_FRAMES = (-12, -6, 0, 6, 12)
"""From the reference of a shot: where it is seen whether the mouth is covered."""
FRAMES_WITH_TEETH = 9
"""Of the widest open mouths, in which the colour of the teeth is looked for."""
CHUNK_BYTES = 2**28
"""Of pictures that are held while footage plays backwards."""


def dub(
    head: TalkingHead,
    footage: str | Path,
    speech: str | Path | SpokenText,
    *,
    seed: int | None = None,
    expression: float = 1.0,
    face: int | None = None,
    loop: bool = False,
    sound_track: int | None = None,
    phones: tuple[PhoneSegment, ...] = (),
    progress: Progress | None = None,
    max_seconds: float = MAX_FOOTAGE_SECONDS,
) -> TalkingVideo:
    """Give the face in a video the lips of another speech.

    The video keeps its size and frame rate, and its length unless it loops; its sound is replaced.
    Its motion is that of the lips alone. Each shot is dubbed by itself, its largest face or the one
    that is chosen; where that is not seen, or its mouth is covered, pictures stay as they are.

    Args:
        head: A model of the mesh renderer.
        footage: Video of a face, seen more or less from the front.
        speech: Recording, or a text that has been spoken or aligned.
        seed: As in :meth:`TalkingHead.generate`; lips hardly depend on it.
        expression: Amount of the mouth's motion, 0..2.
        face: Which face of each shot, from left to right from 1; None is the largest.
        loop: Let footage that is shorter than the speech play back and forth.
        sound_track: Which one of the recording, from 1; None is its default one.
        phones: What is said, where it is known.
        progress: Called while the footage is tracked.
        max_seconds: Longest footage.

    Raises:
        InputError: The model has no mesh, the speech is longer than footage that does not loop,
            or an option is outside its limits.
        MediaError: A file cannot be read.
        FaceError: No shot of the footage shows the face.
    """
    system = head.system
    if not isinstance(system, EmbeddedSystem):
        raise InputError("only the mesh renderer can dub; leave the model out, or use moda-tiny")
    words: tuple[TimedWord, ...] = ()
    if isinstance(speech, SpokenText):
        words, phones, speech = speech.words, phones or speech.phones, speech.path
    sound = AudioReader(speech, SAMPLE_RATE_HZ, number=sound_track)
    video, rate = _footage(footage, sound.duration_seconds, loop=loop)
    limit = min(max_seconds, MAX_FOOTAGE_SECONDS)
    require_range("length of the footage in s", video.duration_seconds, 0.0, limit)
    film = track_face(video, system, face, progress, max_seconds=limit)
    shown = film._replace(shots=tuple(s for s in film.shots if not _is_covered(video, s, system)))
    amounts = MotionAmounts(1.0, expression)
    options = SpeakingOptions(
        seed=seed, blink=False, lips_only=True, amounts=amounts, phones=phones
    )
    main = max(film.shots, key=lambda shot: len(shot.share))
    actor = Actor(_renderer(video, main, system), identity_vector(main.neutral), system.space.rest)
    spoken_frames = math.ceil(round(sound.duration_seconds * rate, 3)) if loop else 0
    num_frames = max(film.num_frames, spoken_frames)
    length = Fraction(num_frames) / exact_rate(rate)
    heard = HeardRecording(sound, expression)

    def motion() -> Iterator[Motion]:
        samples = _padded(heard.samples(), math.ceil(length * SAMPLE_RATE_HZ))
        spoken = heard.watch(system.speak(actor, samples, options))
        yield from retime_motion(TimedMotion(spoken, lambda: length), exact_rate(rate))

    width, height = video.size
    return TalkingVideo(
        (width // 2 * 2, height // 2 * 2),
        rate,
        num_frames,
        sound.path,
        (video.path, sound.path),
        motion,
        lambda: _dubbed(video, shown, system, motion(), num_frames),
        words,
        (*_notes(film, shown, rate, face), *heard.notes_at_once),
        heard.notes,
        sound_track=sound_track,
        made_from="a video whose lips were changed",
    )


def _footage(
    footage: str | Path, speech_seconds: float, *, loop: bool
) -> tuple[VideoReader, float]:
    """The video at its own rate, and that rate.

    Raises:
        InputError: It is shorter than the speech and does not loop.
    """
    rate = float(min(max(VideoReader(footage).native_rate, 10.0), 60.0))
    video = VideoReader(footage, rate)
    if not loop and speech_seconds > video.duration_seconds + LONGER_SPEECH_SECONDS:
        raise InputError(
            f"the speech lasts {speech_seconds:.1f} s, the footage only "
            f"{video.duration_seconds:.1f} s; use more footage, shorter speech, or --loop"
        )
    return video, rate


def _notes(
    film: FilmFaces, shown: FilmFaces, frames_per_second: float, number: int | None
) -> tuple[str, ...]:
    """What the user should know: a face was taken of several, pictures stay as they were.

    ``shown`` has the shots of the film that get new lips.
    """
    notes = []
    if number is None and film.choices:
        index, choice = max(film.choices.items(), key=lambda item: item[1].num_faces)
        if choice.num_faces > 1:
            notes.append(
                f"{choice.num_faces} faces are seen at {index / frames_per_second:.1f} s; the "
                f"largest is dubbed, number {choice.number} from the left; choose another with "
                "--face"
            )
    length = film.num_frames / frames_per_second
    unseen = film.num_hidden / frames_per_second
    covered = shown.num_hidden / frames_per_second - unseen
    for seconds, what in ((unseen, "the face is not seen"), (covered, "the mouth is covered")):
        if seconds >= LONGEST_UNSAID_SECONDS:
            notes.append(
                f"{what} in {seconds:.1f} of {length:.1f} s of the footage; those pictures stay "
                "as they are"
            )
    return tuple(notes)


def track_face(
    video: VideoReader,
    system: EmbeddedSystem,
    number: int | None = None,
    progress: Progress | None = None,
    *,
    max_seconds: float = MAX_FOOTAGE_SECONDS,
) -> FilmFaces:
    """Find the shots of a video and follow the face through each.

    Raises:
        FaceError: None shows the face in three pictures.
    """
    expected = round(video.duration_seconds * video.frames_per_second)

    def counted() -> Iterator[Picture]:
        for count, picture in enumerate(_even(video), start=1):
            yield picture
            if progress is not None:
                progress(count, max(count, expected))
            check_seconds(video.path, count / video.frames_per_second, max_seconds)  # headers lie

    film = track_shots(counted(), video.frames_per_second, system.models, system.space, number)
    if not film.shots:
        wanted = "a face" if number is None else f"a face {number}"
        raise FaceError(
            f"no shot of {video.path} shows {wanted} in at least 3 pictures; use footage that does"
            + ("" if number is None else ", or choose another face")
        )
    return film


def _is_covered(video: VideoReader, shot: Shot, system: EmbeddedSystem) -> bool:
    """Whether something lies over the mouth in all of a few pictures of a shot."""
    places = shot.reference + np.array(COVERING_FRAMES)
    looks = set(np.clip(places, 0, len(shot.share) - 1).tolist())
    return all(
        is_mouth_covered(picture, shot.landmarks[index], system.models)
        for index, picture in _pictures(video, shot, looks).items()
    )


def _dubbed(
    footage: VideoReader,
    film: FilmFaces,
    system: EmbeddedSystem,
    motion: Iterator[Motion],
    num_frames: int,
) -> Iterator[Picture]:
    """Frames (H, W, 3) of the footage, back and forth, with lips that move as ``motion``."""
    rows = (row for stretch in motion for row in stretch.values)
    row: Floats | None = None
    shots = {index: shot for shot in film.shots for index in range(shot.start, shot.stop)}
    drawn_shot: Shot | None = None
    for index, picture in islice(_back_and_forth(footage, film.num_frames), num_frames):
        row = next(rows, row)
        shot = shots.get(index)
        if shot is None or row is None or shot.share[index - shot.start] == 0.0:
            yield picture
            continue
        if shot is not drawn_shot:
            drawing, drawn_shot = _renderer(footage, shot, system), shot
        yield _with_lips(picture, index - shot.start, shot, drawing, row)


def _with_lips(
    picture: Picture, index: int, shot: Shot, drawing: FootageRenderer, row: Floats
) -> Picture:
    """A frame (H, W, 3) of a shot with the lips of ``row``."""
    upright = turned(picture, shot.quarter_turns)
    landmarks, stable = shot.landmarks[index], list(STABLE)
    pose = fit_similarity(shot.person[stable], landmarks[stable])
    drawn = drawing.draw(upright, landmarks, pose, shot.neutral, row)
    share = shot.share[index]
    if share < 1.0:
        mixed = upright + share * (drawn.astype(np.float32) - upright)
        drawn = np.round(mixed).astype(np.uint8)
    return turned(drawn, -shot.quarter_turns)


def _back_and_forth(video: VideoReader, num_frames: int) -> Iterator[tuple[int, Picture]]:
    """Pictures of a video with their numbers, forwards and then backwards, without end."""
    yield from enumerate(islice(_even(video), num_frames))
    width, height = video.size
    chunk = max(1, CHUNK_BYTES // (3 * width * height))
    while True:
        for stop in range(max(num_frames - 1, 1), 0, -chunk):
            start = max(0, stop - chunk)
            part = list(enumerate(islice(_even(video, start), stop - start), start))
            yield from reversed(part)
        yield from islice(enumerate(islice(_even(video), num_frames)), 1, None)


def turned(picture: Picture, quarter_turns: int) -> Picture:
    """A picture (H, W, 3) turned as ``np.rot90`` does."""
    return np.ascontiguousarray(np.rot90(picture, quarter_turns)) if quarter_turns else picture


def _renderer(video: VideoReader, shot: Shot, system: EmbeddedSystem) -> FootageRenderer:
    """What draws lips into the frames of one shot."""
    gaps = np.where(shot.share > 0.0, lip_gap(shot.landmarks), 0.0)
    widest = np.argsort(gaps)[-FRAMES_WITH_TEETH:].tolist()
    pictures = _pictures(video, shot, {shot.reference, *widest})
    teeth = _tooth_colour([(pictures[index], shot.landmarks[index]) for index in widest])
    portrait = _reference(pictures[shot.reference], shot, system)
    return FootageRenderer(portrait, system.space, teeth)


def _reference(picture: Picture, face: Shot, system: EmbeddedSystem) -> Portrait:
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


def _pictures(video: VideoReader, shot: Shot, indices: set[int]) -> dict[int, Picture]:
    """Some frames of a shot by their number in it, turned, read in one go."""
    first, last = min(indices), max(indices)
    frames = enumerate(islice(_even(video, shot.start + first), last - first + 1), first)
    return {
        index: turned(picture, shot.quarter_turns) for index, picture in frames if index in indices
    }


def _even(video: VideoReader, first: int = 0) -> Iterator[Picture]:
    """Pictures with even sides, as encoders want them."""
    width, height = video.size
    for picture in video.pictures_from(first):
        yield np.ascontiguousarray(picture[: height // 2 * 2, : width // 2 * 2])


def _padded(chunks: Iterable[Floats], num_samples: int) -> Iterator[Floats]:
    """Samples, cut or filled with silence so that there are so many."""
    missing = num_samples
    for chunk in chunks:
        yield chunk[:missing]
        missing -= len(chunk[:missing])
        if missing <= 0:
            return
    while missing > 0:
        silence = min(missing, SAMPLE_RATE_HZ)
        yield np.zeros(silence, np.float32)
        missing -= silence
