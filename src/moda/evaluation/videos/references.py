"""The clips of a protocol as every method gets them: portrait, speech, and the real frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from scipy.io import wavfile

from moda.encoders.face import FaceModels, FaceTracker
from moda.encoders.portrait import choose_face
from moda.encoders.speech import SAMPLE_RATE_HZ
from moda.encoders.tracking import LandmarkTrack, track_frames
from moda.errors import FaceError, InputError, MediaError
from moda.evaluation.rendered.reenactment import calmest_frame
from moda.evaluation.videos.protocol import Clip, Crop, OpenProtocol, SourceFrame
from moda.media import AudioReader, VideoReader, VideoWriter, read_image, write_image
from moda.media.phone_times import read_phone_times
from moda.phones import LABELS_PER_SECOND, Labels, label_segments
from moda.structures import FRAMES_PER_SECOND, Floats, Picture
from moda.structures.landmarks import FACE_OVAL, Array

SAMPLES_PER_FRAME = int(SAMPLE_RATE_HZ / FRAMES_PER_SECOND)
MIN_FRAMES = 10
LOOK_EVERY = 5
"""Frames between those in which the head is looked for to place the crop."""
MIN_FOUND = 0.8
"""Share of frames in which a real video must show the face."""


class Box(NamedTuple):
    """What of the original picture is kept, whole pixels, and the size (width, height) it gets."""

    left: int
    top: int
    width: int
    height: int
    size: tuple[int, int]

    def cut(self, picture: Picture) -> Picture:
        """The part (H, W, 3) of a picture."""
        part = picture[self.top : self.top + self.height, self.left : self.left + self.width]
        return resized(part, self.size)


@dataclass(frozen=True)
class RealVideo:
    """The frames that a method's are compared with, decoded and cut anew each time."""

    path: Path
    first_frame: int
    num_frames: int
    box: Box

    def frames(self) -> Iterator[Picture]:
        """Pictures (H, W, 3) at 25 fps."""
        stop = self.first_frame + self.num_frames
        for picture in islice(VideoReader(self.path), self.first_frame, stop):
            yield self.box.cut(picture)


@dataclass(frozen=True)
class Reference:
    """One clip, ready: what the methods get, and what is known of the real video."""

    name: str
    portrait: Picture  # (H, W, 3)
    portrait_landmarks: Array  # (478, 3) pixels
    samples: Floats  # (N,) 16 kHz
    num_frames: int
    portrait_file: Path
    speech_file: Path
    labels: Labels | None = None
    """(N,) phone classes at 100 Hz"""
    real: RealVideo | None = None
    real_file: Path | None = None
    """the real video as cut, with the speech, to be seen beside the others"""
    track: LandmarkTrack | None = None
    """of the real frames"""
    source_index: int | None = None
    """which real frame is the portrait"""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in which everything is compared."""
        height, width = self.portrait.shape[:2]
        return width, height

    @property
    def seconds(self) -> float:
        return self.num_frames / FRAMES_PER_SECOND


def prepare_reference(
    opened: OpenProtocol, clip: Clip, folder: Path, models: FaceModels
) -> Reference:
    """Cut a clip and write portrait.png, speech.wav and real.mp4 into ``folder``.

    Raises:
        InputError: the clip is too short, or the source frame is beyond its end.
        FaceError: no face, or not in enough of the frames.
        MediaError: a file cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    crop, rule = opened.protocol.crop, opened.protocol.source_frame
    speech_source = opened.locate(clip.speech.path if clip.speech else clip.video.path)
    samples = read_samples(speech_source, clip.start_seconds, clip.seconds)
    labels = _read_labels(opened, clip, len(samples))
    real, track, source_index = None, None, None
    if clip.video:
        real = _find_real(opened.locate(clip.video.path), clip, crop, len(samples), models)
        track = _track_real(real, models, clip)
        source_index = choose_source(track, rule, clip)
    num_frames = real.num_frames if real else -(-len(samples) // SAMPLES_PER_FRAME)
    if num_frames < MIN_FRAMES:
        raise InputError(
            f"clip {clip.name} has {num_frames} frames, fewer than the limit of {MIN_FRAMES}; "
            "choose a longer part"
        )
    samples = samples[: num_frames * SAMPLES_PER_FRAME]
    portrait_file, speech_file = folder / "portrait.png", folder / "speech.wav"
    portrait = _portrait(opened, clip, crop, real, source_index, models)
    write_image(portrait_file, portrait)
    write_wav(speech_file, samples)
    real_file = None
    if real is not None:
        real_file = folder / "real.mp4"
        write_video(real_file, real.frames(), real.box.size, speech_file)
    return Reference(
        clip.name,
        portrait,
        choose_face(portrait, models, None).points.astype(np.float64),
        samples,
        num_frames,
        portrait_file,
        speech_file,
        labels,
        real,
        real_file,
        track,
        None if clip.portrait else source_index,
    )


def read_samples(path: Path, start_seconds: float, seconds: float) -> Floats:
    """(N,) 16 kHz mono of a part of a sound or video file."""
    start = round(start_seconds * SAMPLE_RATE_HZ)
    stop = start + round(seconds * SAMPLE_RATE_HZ)
    kept, position = [], 0
    for chunk in AudioReader(path, SAMPLE_RATE_HZ):
        kept.append(chunk[max(0, start - position) : max(0, stop - position)])
        position += len(chunk)
        if position >= stop:
            break
    samples: Floats = np.concatenate(kept) if kept else np.zeros(0, np.float32)
    if not len(samples):
        raise InputError(f"{path} ends before {start_seconds} s; begin earlier")
    return samples


def write_wav(path: Path, samples: Floats) -> None:
    """16-bit mono file of samples (N,) at 16 kHz in -1..1."""
    values = np.round(np.clip(samples, -1.0, 1.0) * 32767.0).astype(np.int16)
    wavfile.write(path, SAMPLE_RATE_HZ, values)


def write_video(path: Path, frames: Iterable[Picture], size: tuple[int, int], speech: Path) -> None:
    """A video at 25 fps with the speech."""
    with VideoWriter(path, size, FRAMES_PER_SECOND, sound=speech) as writer:
        for frame in frames:
            writer.write(frame)


def resized(picture: Picture, size: tuple[int, int]) -> Picture:
    """A picture in the size (width, height), areas averaged when it gets smaller."""
    height, width = picture.shape[:2]
    if (width, height) == size:
        return np.ascontiguousarray(picture)
    smaller = size[0] < width
    method = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, size, interpolation=method), np.uint8)


def choose_source(track: LandmarkTrack, rule: SourceFrame, clip: Clip) -> int:
    """Frame of the real video that becomes the portrait. Raises :class:`InputError`."""
    if rule.rule == "first":
        return 0
    if rule.rule == "calmest":
        return calmest_frame(track.landmarks.astype(np.float64))
    if rule.index >= len(track):
        raise InputError(
            f"clip {clip.name} has {len(track)} frames; source_frame.index {rule.index} is beyond"
        )
    return rule.index


def head_box(ovals: Array, picture_size: tuple[int, int], crop: Crop) -> Box:
    """Square around all places of a face, given as outlines (T, P, 2), inside the picture.

    Its side is ``margin`` times the height of the face, or more if the head moves out of that, and
    at most what the picture has.
    """
    width, height = picture_size
    low, high = ovals.min((0, 1)), ovals.max((0, 1))
    face_height = float(np.median(ovals[..., 1].max(1) - ovals[..., 1].min(1)))
    wanted = max(crop.margin * face_height, 1.15 * float((high - low).max()))
    side = int(min(round(wanted), width, height))
    centre = 0.5 * (low + high)
    left, top = np.round(centre - 0.5 * side).astype(int)
    left, top = int(np.clip(left, 0, width - side)), int(np.clip(top, 0, height - side))
    return Box(left, top, side, side, (crop.size_px, crop.size_px))


def frame_box(picture_size: tuple[int, int], crop: Crop) -> Box:
    """The whole picture, its longer side at the size of the protocol, both sides even."""
    width, height = picture_size
    scale = crop.size_px / max(width, height)
    size = (max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2))
    return Box(0, 0, width, height, size)


def _find_real(
    path: Path, clip: Clip, crop: Crop, num_samples: int, models: FaceModels
) -> RealVideo:
    reader = VideoReader(path)
    first = round(clip.start_seconds * FRAMES_PER_SECOND)
    most = min(round(clip.seconds * FRAMES_PER_SECOND), num_samples // SAMPLES_PER_FRAME)
    tracker, ovals, count = FaceTracker(models), [], 0
    for picture in islice(reader, first, first + most):
        if crop.kind == "head" and count % LOOK_EVERY == 0:
            face = tracker.track(picture)
            if face is not None:
                ovals.append(face.points[list(FACE_OVAL), :2])
        count += 1
    if count == 0:
        raise InputError(f"clip {clip.name}: {path} ends before {clip.start_seconds} s")
    if crop.kind == "frame":
        return RealVideo(path, first, count, frame_box(reader.size, crop))
    if not ovals:
        raise FaceError(f"clip {clip.name}: {path} shows no face in this part; choose another")
    return RealVideo(path, first, count, head_box(np.stack(ovals), reader.size, crop))


def _track_real(real: RealVideo, models: FaceModels, clip: Clip) -> LandmarkTrack:
    track = track_frames(real.frames(), models)
    count = len(track)
    if count != real.num_frames:
        raise MediaError(f"{real.path} gave {count} frames, then {real.num_frames}; it is damaged")
    share = float(track.found.mean())
    if share < MIN_FOUND:
        raise FaceError(
            f"clip {clip.name}: the face is seen in {share:.0%} of the frames, less than the limit "
            f"of {MIN_FOUND:.0%}; choose another part"
        )
    return track


def _portrait(
    opened: OpenProtocol,
    clip: Clip,
    crop: Crop,
    real: RealVideo | None,
    source_index: int | None,
    models: FaceModels,
) -> Picture:
    if clip.portrait:
        picture = read_image(opened.locate(clip.portrait.path))
        size = (picture.shape[1], picture.shape[0])
        if crop.kind == "frame":
            return frame_box(size, crop).cut(picture)
        face = choose_face(picture, models, None)
        return head_box(face.points[None, list(FACE_OVAL), :2], size, crop).cut(picture)
    assert real is not None
    assert source_index is not None
    frame = next(islice(real.frames(), source_index, None), None)
    if frame is None:
        raise MediaError(f"{real.path} ends before its last tracked frame; it is damaged")
    return frame


def _read_labels(opened: OpenProtocol, clip: Clip, num_samples: int) -> Labels | None:
    if not clip.phones:
        return None
    segments = read_phone_times(opened.locate(clip.phones.path))
    first = round(clip.start_seconds * LABELS_PER_SECOND)
    count = num_samples * LABELS_PER_SECOND // SAMPLE_RATE_HZ
    return label_segments(segments, count, first_label=first)
