"""One clip of a corpus to a work file: followed, heard, judged. What a worker does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moda.data.clips import FORMAT, ClipEntry, NeuralTrack, PreparedClip, SpaceName, write_shard
from moda.data.corpora import CorpusClip
from moda.data.neural import NeuralEncoders
from moda.data.quality import PictureWatch, QualityLimits, check_picture, check_sound
from moda.data.statistics import MotionStatistics
from moda.devices import choose_device
from moda.encoders.face import FaceModels
from moda.encoders.neural.tracking import ImplicitFaces, track_implicit_faces
from moda.encoders.speech import SAMPLE_RATE_HZ
from moda.encoders.tracking import motion_from_landmarks, track_landmarks
from moda.errors import FaceError, MediaError, ModaError, describe_fault
from moda.media import AudioReader, VideoReader
from moda.structures.keypoints import MOTION_SIZE
from moda.weights.checkpoints import load_checkpoint
from moda.weights.spaces import load_motion_space
from moda.workers import LostJob, one_thread

_face_models = cache(FaceModels)
_encoders = cache(NeuralEncoders.load)
_judge = cache(load_checkpoint)
_mesh_space = cache(load_motion_space)
"""Each worker loads them once."""

NO_SOUND = "no sound: there is no track and no file beside it; label it none, or use --no-sound"


@dataclass(frozen=True)
class PrepareOptions:
    """How clips are made."""

    limits: QualityLimits = field(default_factory=QualityLimits)
    keep_all: bool = False
    """keep clips that are outside the limits, with the reasons beside them"""
    space: SpaceName = "mesh"
    device: str = "cpu"
    clips_per_shard: int = 64
    """of a folder that is prepared for the first time"""


class ClipJob(NamedTuple):
    """What a worker needs to make one clip."""

    clip: CorpusClip
    target: Path
    """the work file to write"""
    fingerprint: str
    options: PrepareOptions


def device_of(job: ClipJob) -> str:
    """The device of a job; the mesh space leaves GPUs of a cluster alone unless told."""
    options = job.options
    return "cpu" if options.device == "auto" and options.space == "mesh" else options.device


def fingerprint(clip: CorpusClip, options: PrepareOptions) -> str:
    """Of the files, the labels and the limits that a clip is made from."""
    files = []
    for path in (clip.video, *([clip.sound] if clip.sound else [])):
        try:
            status = path.stat()
            files.append([path.name, status.st_size, status.st_mtime_ns])
        except OSError:
            files.append([path.name, "missing"])
    labels = {key: value for key, value in asdict(clip).items() if key not in ("video", "sound")}
    parts = [FORMAT, options.space, files, labels, asdict(options.limits), options.keep_all]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def prepare_clip(job: ClipJob) -> ClipEntry | LostJob:
    """Make one clip and write it to its work file; what is wrong with it is in the entry.

    Computes on one thread, so that the result is the same wherever it is made. A fault of MoDA
    loses this clip alone.

    Raises:
        CheckpointError: The networks of the neural space are not here.
    """
    clip, reasons, prepared = job.clip, list[str](), None
    try:
        with one_thread():
            prepared, reasons = track_clip(clip, job.options)
        if reasons and not job.options.keep_all:
            prepared = None
    except FaceError as error:
        reasons = [f"no face: {error}"]
    except (MediaError, OSError) as error:
        reasons = [f"unreadable: {error}"]
    except ModaError:
        raise
    except Exception as error:
        return LostJob(describe_fault(error))
    entry = replace(ClipEntry.of(prepared or clip, job.fingerprint), reasons=tuple(reasons))
    made = [] if prepared is None else [prepared]
    space = job.options.space
    write_shard(job.target, [entry], made, motion_statistics(made, space), space)
    return entry


def track_clip(clip: CorpusClip, options: PrepareOptions) -> tuple[PreparedClip, list[str]]:
    """Motion and sound of one clip, and what speaks against it.

    Raises:
        MediaError: It cannot be read.
        FaceError: It shows no face at all.
        CheckpointError: The networks of the neural space are not here.
    """
    device = choose_device(options.device)
    models = _face_models(device)
    reader, watch = VideoReader(clip.video), PictureWatch(models)
    faces: ImplicitFaces | None = None
    if options.space == "neural":
        views = iter((watch.pass_on, iter))
        faces = track_implicit_faces(
            lambda: next(views)(reader.timed_pictures()),
            models,
            _encoders(device).extractor,
        )
        track = faces.track
    else:
        track = track_landmarks(watch.pass_on(reader.timed_pictures()), models)
    reasons = check_picture(track, watch, options.limits)
    samples = np.zeros(0, np.int16)
    if clip.has_own_sound and (clip.sound or reader.has_sound):
        samples = _read_samples(clip.sound or clip.video)
    prepared = PreparedClip(
        clip.name,
        clip.speaker,
        clip.emotion,
        track,
        samples,
        clip.split,
        clip.transcript,
        clip.words,
    )
    if prepared.has_speech:
        judge = _judge("moda-tiny", device)
        reasons += check_sound(track, prepared.sound, judge, options.limits)
    elif clip.has_own_sound:
        reasons.append(NO_SOUND)
    if faces is not None:
        features = _encoders(device).hear(prepared.sound, len(track))
        neural = NeuralTrack(faces.motion, faces.identity, features)
        prepared = replace(prepared, neural=neural)
    return prepared, reasons


def motion_statistics(clips: Sequence[PreparedClip], space: SpaceName) -> MotionStatistics:
    """Of the motion of clips: in the built-in mesh space, or raw and mirrored in the neural one."""
    return MotionStatistics.total(
        (MotionStatistics.of(motion.astype(np.float64)) for motion in _motions(clips, space)),
        statistics_size(space),
    )


def statistics_size(space: SpaceName) -> int:
    """Numbers of a frame of motion."""
    return MOTION_SIZE if space == "neural" else _mesh_space().size


def _motions(clips: Sequence[PreparedClip], space: SpaceName) -> Iterator[NDArray[np.float32]]:
    for clip in clips:
        if space == "mesh":
            yield motion_from_landmarks(clip.track, _mesh_space())[0].values
        elif clip.neural is not None:
            yield from clip.neural.motion


def _read_samples(path: Path) -> NDArray[np.int16]:
    sound = np.concatenate(list(AudioReader(path, SAMPLE_RATE_HZ)))
    peak = max(1.0, float(np.abs(sound).max()))
    return np.round(sound / peak * 32767.0).astype(np.int16)
