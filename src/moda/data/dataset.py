"""Prepared clips to training examples: motion, speech features, labels, and random windows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moda.data.augment import augment_features, augment_waveform
from moda.data.clips import PreparedClip
from moda.data.mesh_space import mirrored_indices
from moda.data.sync import SyncClip, anchored, estimate_lags, rows_at, stack_context
from moda.encoders.live_speech import live_features
from moda.encoders.speech import encode_speech
from moda.encoders.tracking import LandmarkTrack, motion_from_landmarks
from moda.errors import InputError
from moda.structures import EMOTIONS, Floats, MotionSpace
from moda.structures.landmarks import Array, identity_vector, lip_gap, lip_width

NONE_EMOTION = len(EMOTIONS)
CLIP_WEIGHT_POWER = 0.7
"""A clip is drawn by its length to this power: long clips do not drown the short ones."""


class Affine(NamedTuple):
    """Stored motion (T, D) -> normalised motion, ``values * factor + offset``."""

    factor: Floats  # (D,)
    offset: Floats  # (D,)


@dataclass(frozen=True)
class TrainingClip:
    """One clip ready to be cut into windows. Its arrays may be mapped files: windows read the rows
    that they need and no others."""

    name: str
    speaker: str
    emotion: int
    """index into EMOTIONS, or the row after it for none"""
    motion: tuple[Floats, Floats]
    """(T, D), as tracked and mirrored left to right; normalised once ``to_normal`` is applied"""
    identity: tuple[Floats, Floats]
    """(63,) of both"""
    features: tuple[NDArray[Any], ...]
    """(T, F) in single or half precision, the clean sound first, then augmented ones; empty without
    sound of the speaker's own"""
    lips: Array
    """(T, 2) lip gap and width as tracked; (0, 2) in the neural space, whose lags are not estimated
    """
    mouth_mean: tuple[Floats, Floats] | None = None
    """(T, M) of both, what is read of the mouth from the clean sound by a readout that has not seen
    the speaker; None takes the model's own mean"""
    lag: float = 0.0
    """lips at ``t + lag`` go with the sound at ``t``"""
    to_normal: Affine | None = None
    """None: the motion is normalised already"""

    def __len__(self) -> int:
        lengths = [len(self.motion[0]), *(len(features) for features in self.features[:1])]
        return min(lengths)


class DrawnWindow(NamedTuple):
    """Where one window of a batch comes from."""

    clip: str
    start: int
    """first frame"""
    seed: int
    """of the noise that a training step adds to it"""


class Batch(NamedTuple):
    """Windows for one step, arrays with a leading batch axis."""

    motion: Floats  # (B, T, D) normalised
    previous_motion: Floats  # (B, 1, D)
    speech: Floats  # (B, before + T + after, F)
    mouth_mean: Floats  # (B, T, M), M = 0 where it is left to the model
    is_silent: NDArray[np.bool_]  # (B,) the window has no sound of its own
    emotion: NDArray[np.int64]  # (B,)
    identity: Floats  # (B, 63)
    weight: Floats  # (B, T) 1 inside the clip, 0 in the padding
    windows: tuple[DrawnWindow, ...]


def build_clips(
    prepared: Sequence[PreparedClip],
    space: MotionSpace,
    *,
    versions: int,
    in_sync: str,
    kind: Literal["whisper", "log_mel"] = "log_mel",
    seed: int = 0,
) -> list[TrainingClip]:
    """Motion and features of prepared clips, with the offset of sound and picture estimated.

    ``versions`` counts the augmented sounds besides the clean one, and, if there are any, the clean
    one as a live head hears it; ``in_sync`` is a pattern of the
    names of clips whose sound is known to fit. ``kind`` is that of the speech features.
    """
    generator = np.random.default_rng(seed)
    neutrals = speaker_neutrals(prepared, space)
    clips = [
        _build(clip, space, kind, versions, neutrals.get(clip.speaker), generator)
        for clip in prepared
    ]
    lags = estimate_lags(
        [
            SyncClip(
                clip.name,
                clip.speaker,
                stack_context(_features(source.sound, "log_mel")[: len(clip)]),
                clip.lips[: len(clip)],
            )
            for clip, source in zip(clips, prepared, strict=True)
            if clip.features
        ]
    )
    return with_lags(clips, lags, in_sync)


def _features(sound: Floats, kind: Literal["whisper", "log_mel"]) -> Floats:
    return np.concatenate([part.features for part in encode_speech([sound], kind)])


def with_lags(
    clips: Sequence[TrainingClip], lags: Mapping[str, int], in_sync: str
) -> list[TrainingClip]:
    """The clips at other lags, the zero being that of the clips whose names match ``in_sync``."""
    exact = anchored(lags, [name for name in lags if fnmatchcase(name, in_sync)])
    return [replace(clip, lag=exact.get(clip.name, 0.0)) for clip in clips]


def speaker_neutrals(
    prepared: Sequence[PreparedClip], space: MotionSpace
) -> dict[str, tuple[Array, Array]]:
    """Neutral faces (478, 3), own and mirrored, of the speakers that have a clip labelled neutral.

    Their emotional clips are measured against it: a smile held for a whole clip is a smile.
    """
    return {
        clip.speaker: (
            motion_from_landmarks(clip.track, space)[1],
            motion_from_landmarks(mirror_track(clip.track, space), space)[1],
        )
        for clip in prepared
        if clip.emotion == "neutral"
    }


def _build(
    clip: PreparedClip,
    space: MotionSpace,
    kind: Literal["whisper", "log_mel"],
    versions: int,
    neutrals: tuple[Array, Array] | None,
    generator: np.random.Generator,
) -> TrainingClip:
    tracks = (clip.track, mirror_track(clip.track, space))
    pairs = [
        motion_from_landmarks(track, space, neutral=neutral)
        for track, neutral in zip(tracks, neutrals or (None, None), strict=True)
    ]
    own, other = (space.normalize(motion.values) for motion, _ in pairs)
    identities = [identity_vector(neutral) for _, neutral in pairs]
    features: list[Floats] = []
    if clip.has_speech:
        features = [_features(clip.sound, kind)]
        if kind == "whisper" and versions:
            features.append(live_features(clip.sound))
        changed = [augment_waveform(clip.sound, generator) for _ in range(versions)]
        features += [_features(sound, kind) for sound in changed]
    landmarks = clip.track.landmarks.astype(np.float64)
    return TrainingClip(
        name=clip.name,
        speaker=clip.speaker,
        emotion=NONE_EMOTION if clip.emotion is None else EMOTIONS.index(clip.emotion),
        motion=(own, other),
        identity=(identities[0], identities[1]),
        features=tuple(features),
        lips=np.stack([lip_gap(landmarks), lip_width(landmarks)], axis=1),
    )


def build_neural_clips(prepared: Iterable[PreparedClip], space: MotionSpace) -> list[TrainingClip]:
    """Clips of the neural motion space. Nothing is copied: mapped arrays stay on disk.

    The motion of every clip is brought to the usual size of a face, as that of a portrait is when
    it is animated: scale and translation over the clip's own mean scale, no depth.

    Raises:
        InputError: A clip was prepared for the mesh space only.
    """
    clips = []
    for clip in prepared:
        if clip.neural is None:
            raise InputError(
                f"clip {clip.name} has no motion of the neural space; prepare the videos again "
                "with moda prepare --space neural"
            )
        motion, identity, features = clip.neural.motion, clip.neural.identity, clip.neural.features
        clips.append(
            TrainingClip(
                name=clip.name,
                speaker=clip.speaker,
                emotion=NONE_EMOTION if clip.emotion is None else EMOTIONS.index(clip.emotion),
                motion=(motion[0], motion[1]),
                identity=(identity[0], identity[1]),
                features=(features,) if len(features) else (),
                lips=np.zeros((0, 2)),
                to_normal=_usual_size(motion[0], space),
            )
        )
    return clips


def _usual_size(motion: Floats, space: MotionSpace) -> Affine:
    """From raw neural motion (T, D) of a face of any size to normalised motion of the usual one."""
    factor = np.ones(space.size, np.float32)
    scale, translation = space.slice("scale").start, space.slice("translation")
    ratio = float(motion[:, scale].mean()) / float(space.mean[scale])
    factor[scale : translation.stop] = 1.0 / ratio
    factor[translation.stop - 1] = 0.0
    return Affine(factor / space.scale, -space.mean / space.scale)


def mirror_track(track: LandmarkTrack, space: MotionSpace) -> LandmarkTrack:
    """The same clip as seen in a mirror."""
    assert space.canonical_face is not None
    partner = mirrored_indices(space.canonical_face.astype(np.float64))
    landmarks = track.landmarks[:, partner] * np.array([-1.0, 1.0, 1.0], np.float32)
    return replace(track, landmarks=np.ascontiguousarray(landmarks))


class WindowSampler:
    """Draws random windows of clips.

    Draws are numbered, and every window has random numbers of its own that follow from the seed,
    the number of the draw and its place in the batch. So a part of a batch is the same whoever
    draws it, and a training goes on exactly wherever it was interrupted.
    """

    def __init__(
        self,
        clips: Sequence[TrainingClip],
        *,
        before: int,
        after: int,
        seed: int,
        silent_share: float = 1 / 6,
        forget_previous: float = 0.15,
        forget_identity: float = 0.3,
        forget_emotion: float = 0.1,
        augment: bool = True,
    ) -> None:
        self._speaking = [clip for clip in clips if clip.features]
        self._silent = [clip for clip in clips if not clip.features]
        if not self._speaking:
            raise InputError(f"none of the {len(clips)} clips has sound of its own; add some")
        self._before, self._after, self._seed = before, after, seed
        self._silent_share = silent_share if self._silent else 0.0
        self._forget = (forget_previous, forget_identity, forget_emotion)
        self._augment = augment
        self._num_draws = 0
        self._mean_identity = np.mean([clip.identity[0] for clip in clips], axis=0)
        self._cumulative = {
            id(group): np.cumsum([len(clip) ** CLIP_WEIGHT_POWER for clip in group])
            for group in (self._speaking, self._silent)
        }

    def num_silent(self, size: int) -> int:
        """How many windows of a batch have no sound; they are its first ones."""
        return round(size * self._silent_share)

    def batch(
        self,
        size: int,
        num_frames: int,
        *,
        draw: int | None = None,
        part: slice = slice(None),
    ) -> Batch:
        """Windows of ``num_frames`` frames: of a batch of ``size``, those in ``part``.

        ``draw`` is the number of the draw; without it the next one is taken.
        """
        if draw is None:
            draw, self._num_draws = self._num_draws, self._num_draws + 1
        num_silent = self.num_silent(size)
        windows = [
            self._window(
                self._silent if index < num_silent else self._speaking,
                num_frames,
                np.random.default_rng([self._seed, draw, index]),
            )
            for index in range(size)[part]
        ]
        *arrays, origins = zip(*windows, strict=True)
        stacked: list[Any] = [np.stack(parts) for parts in arrays]
        return Batch._make([*stacked, origins])

    def _window(
        self, group: list[TrainingClip], num_frames: int, random: np.random.Generator
    ) -> tuple[np.ndarray | np.generic | DrawnWindow, ...]:
        cumulative = self._cumulative[id(group)]
        place = np.searchsorted(cumulative, random.random() * cumulative[-1], side="right")
        clip = group[min(int(place), len(group) - 1)]
        flip = int(random.integers(2))
        forget_previous, forget_identity, forget_emotion = self._forget
        length = len(clip)
        start = int(random.integers(0, max(0, length - num_frames) + 1))
        times = np.arange(start - 1, start + num_frames)
        lag = clip.lag if clip.features else 0.0
        motion = _rows_at(clip.motion[flip], times + lag)
        if clip.to_normal is not None:
            motion = motion * clip.to_normal.factor + clip.to_normal.offset
        inside = (times[1:] + lag >= 0) & (times[1:] + lag <= length - 1)
        known = start > 0 and random.random() >= forget_previous
        previous = motion[:1] if known else np.zeros_like(motion[:1])
        speech = self._speech(clip, start, num_frames, random)
        mouth_mean = self._mouth_mean(clip, flip, start, num_frames)
        identity = self._mean_identity
        if random.random() >= forget_identity:
            identity = clip.identity[flip] + 0.01 * random.standard_normal(len(identity))
        emotion = clip.emotion if random.random() >= forget_emotion else NONE_EMOTION
        return (
            motion[1:],
            previous,
            speech,
            mouth_mean,
            np.bool_(not clip.features),
            np.int64(emotion),
            identity.astype(np.float32),
            inside.astype(np.float32),
            DrawnWindow(clip.name, start, int(random.integers(2**62))),
        )

    def _speech(
        self, clip: TrainingClip, start: int, num_frames: int, random: np.random.Generator
    ) -> NDArray[Any]:
        """Features of a window with context; zeros, which is silence, outside the recording."""
        wanted = self._before + num_frames + self._after
        if not clip.features:
            return np.zeros((wanted, _feature_size(self._speaking)), np.float32)
        features = clip.features[random.integers(len(clip.features))]
        first = start - self._before
        known = features[max(0, first) : max(0, first + wanted)]
        missing = max(0, -first)
        padded = np.pad(known, ((missing, wanted - missing - len(known)), (0, 0)))
        return augment_features(padded, random) if self._augment else padded

    def _mouth_mean(
        self, clip: TrainingClip, flip: int, start: int, num_frames: int
    ) -> NDArray[np.float32]:
        """(T, M) of the window, that of silence where the clip has no sound; (T, 0) without any."""
        silence = next((c.mouth_mean[0] for c in self._speaking if c.mouth_mean is not None), None)
        if silence is None:
            return np.zeros((num_frames, 0), np.float32)
        if clip.mouth_mean is None:
            return np.zeros((num_frames, silence.shape[1]), np.float32)
        mean = clip.mouth_mean[flip]
        return mean[np.minimum(np.arange(start, start + num_frames), len(mean) - 1)]


def _feature_size(clips: Sequence[TrainingClip]) -> int:
    return int(clips[0].features[0].shape[1])


def _rows_at(values: Floats, times: NDArray[np.floating]) -> Floats:
    """Rows of ``values`` at fractional times, held at the ends; only those are read."""
    first = int(np.clip(np.floor(times[0]), 0, len(values) - 1))
    last = int(np.clip(np.floor(times[-1]) + 2, first + 1, len(values)))
    return rows_at(np.asarray(values[first:last]), times - first).astype(np.float32)
