"""Do the lips follow the speech? Motion of held-out speakers against the tracked lips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from moda.data.clips import PreparedClip
from moda.data.sync import LinearMap, SyncClip, estimate_lags, shift_frames, stack_context
from moda.encoders.speech import encode_speech
from moda.encoders.tracking import LandmarkTrack
from moda.evaluation.metrics import lagged_correlation, weighted_mean
from moda.motion.hearing.lips import mean_identity, predicted_mean
from moda.motion.hearing.listening import join_speech, listen
from moda.motion.rules.controls import shape_motion
from moda.motion.sampler import sampling_options
from moda.motion.speaking import speak
from moda.options import SpeakingOptions
from moda.structures import UNKNOWN_PHONE, Floats, Motion, Speech, Style
from moda.structures.landmarks import Array, lip_gap, lip_width
from moda.weights.checkpoints import Checkpoint

SpeechKind = Literal["whisper", "log_mel"]
FIGURES = ("gap", "width", "gap_amplitude", "width_amplitude")
"""Of a clip, and of a row."""


@dataclass(frozen=True)
class ClipScore:
    """One clip; correlations at the best lag within 6 frames."""

    num_frames: int
    gap: float
    width: float
    gap_amplitude: float
    """standard deviation of the lip gap over that of the real one, 1 is right"""
    width_amplitude: float


@dataclass(frozen=True)
class LipScore:
    """Length-weighted means over clips, and over seeds where there are several."""

    method: str
    gap: float
    width: float
    gap_amplitude: float
    width_amplitude: float
    per_clip: dict[str, ClipScore]
    num_seeds: int = 1
    gap_deviation: float = 0.0
    """standard deviation over the seeds"""
    width_deviation: float = 0.0
    has_units: bool = True
    """whether the method gives lips in the units of a face, so that amplitudes mean something"""

    def row(self) -> str:
        """A line of a Markdown table."""
        gap, width = f"{self.gap:.3f}", f"{self.width:.3f}"
        if self.num_seeds > 1:
            gap, width = (
                f"{gap} ± {self.gap_deviation:.3f}",
                f"{width} ± {self.width_deviation:.3f}",
            )
        amplitudes = " | "
        if self.has_units:
            amplitudes = f"{self.gap_amplitude:.2f} | {self.width_amplitude:.2f}"
        return f"| {self.method} | {gap} | {width} | {amplitudes} |"


@dataclass(frozen=True)
class SpokenClip:
    """A prepared clip with its features, and its lips as tracked."""

    name: str
    speaker: str
    speech: Speech
    samples: Floats
    track: LandmarkTrack
    gap: Array
    width: Array
    kind: SpeechKind = "whisper"
    """of the features"""

    @property
    def num_frames(self) -> int:
        return min(len(self.speech), len(self.gap))

    @property
    def lips(self) -> Array:
        """(num_frames, 2) gap and width"""
        return np.stack([self.gap, self.width], axis=1)[: self.num_frames]


def spoken_clips(clips: Sequence[PreparedClip], kind: SpeechKind = "whisper") -> list[SpokenClip]:
    """The clips that come with their speaker's sound."""
    chosen = []
    for clip in clips:
        if clip.has_speech:
            landmarks = clip.track.landmarks.astype(np.float64)
            lips = lip_gap(landmarks), lip_width(landmarks)
            speech = whole_speech(clip.sound, kind=kind)
            chosen.append(
                SpokenClip(clip.name, clip.speaker, speech, clip.sound, clip.track, *lips, kind)
            )
    return chosen


def whole_speech(
    samples: Floats, labels: NDArray[np.int8] | None = None, *, kind: SpeechKind = "whisper"
) -> Speech:
    """Features of a whole recording at once, with the phones of its ``labels`` at 100 Hz."""
    speech = join_speech(list(encode_speech([samples], kind)))
    if labels is None:
        return speech
    return replace(speech, phones=known_phones(labels, len(speech)))


def heard_by(checkpoint: Checkpoint, clips: Sequence[SpokenClip]) -> list[SpokenClip]:
    """The clips with the features that a model is told."""
    kind = checkpoint.config.motion.speech.mesh_kind
    return [
        clip
        if clip.kind == kind
        else replace(clip, speech=whole_speech(clip.samples, kind=kind), kind=kind)
        for clip in clips
    ]


def sound_spectra(samples: Floats) -> Floats:
    """(T, 160) log-mel spectra of a recording (N,), what simple methods hear.

    What a model hears is another matter, and may be anything.
    """
    return np.concatenate([part.features for part in encode_speech([samples], "log_mel")])


def known_phones(labels: NDArray[np.int8], num_frames: int) -> NDArray[np.int8]:
    """Labels (N,) at 100 Hz -> phones (num_frames, 2), unknown after the last label."""
    halves = labels[::2][: 2 * num_frames]
    missing = (0, 2 * num_frames - len(halves))
    return np.pad(halves, missing, constant_values=UNKNOWN_PHONE).reshape(-1, 2)


def takes_phones(checkpoint: Checkpoint) -> bool:
    """Whether a model has a use for known phones."""
    return checkpoint.config.motion.speech_embedder.num_phones > 0


def hear(checkpoint: Checkpoint, samples: Floats, labels: NDArray[np.int8] | None = None) -> Speech:
    """What a model is told of a whole recording, see :func:`whole_speech`."""
    return whole_speech(samples, labels, kind=checkpoint.config.motion.speech.mesh_kind)


def sampled_motion(
    checkpoint: Checkpoint,
    speech: Speech,
    *,
    identity: Floats | None = None,
    seed: int = 0,
    style: Style | None = None,
) -> Motion:
    """Motion as the product makes it; of the mean face without an identity."""
    stretches = speak(
        checkpoint.model,
        checkpoint.space,
        checkpoint.config.sampler,
        [speech],
        identity=mean_identity(checkpoint.space) if identity is None else identity,
        options=SpeakingOptions(seed=seed, style=style or Style()),
    )
    return Motion(np.concatenate([part.values for part in stretches]), checkpoint.space)


def mean_motion(checkpoint: Checkpoint, speech: Speech) -> Motion:
    """The mean that a model predicts, without any flow, shaped as the product does it."""
    model, space = checkpoint.model, checkpoint.space
    heard = join_speech(list(listen(model, [speech])))
    mean = predicted_mean(model, space, heard.features)
    gain = sampling_options(space, checkpoint.config.sampler)["gain"]
    motion = mean if gain is None else Motion(mean.values * gain, space)
    return next(shape_motion([(motion, heard, True)], SpeakingOptions()))


Predictor = Callable[[SpokenClip], tuple[Array, Array]]


def score(method: str, clips: Sequence[SpokenClip], predict: Predictor) -> LipScore:
    """Compare a method's lips with the tracked ones, clip by clip at the clip's own offset.

    A method may give fewer frames than the clip has; what it gives counts.
    """
    per_clip = {}
    for clip in clips:
        gap, width = predict(clip)
        count = min(clip.num_frames, len(gap))
        gap, width = gap[:count], width[:count]
        real_gap, real_width = clip.gap[:count], clip.width[:count]
        per_clip[clip.name] = ClipScore(
            count,
            lagged_correlation(gap, real_gap).correlation,
            lagged_correlation(width, real_width).correlation,
            float(gap.std() / real_gap.std()),
            float(width.std() / real_width.std()),
        )
    return _mean_over_clips(method, per_clip)


def mean_of_seeds(method: str, scores: Sequence[LipScore]) -> LipScore:
    """One row from the rows of several seeds."""
    names = scores[0].per_clip

    def mean(name: str, field: str) -> float:
        return float(np.mean([getattr(score.per_clip[name], field) for score in scores]))

    per_clip = {
        name: ClipScore(clip.num_frames, *(mean(name, field) for field in FIGURES))
        for name, clip in names.items()
    }
    return replace(
        _mean_over_clips(method, per_clip),
        num_seeds=len(scores),
        gap_deviation=float(np.std([score.gap for score in scores])),
        width_deviation=float(np.std([score.width for score in scores])),
    )


def _mean_over_clips(method: str, per_clip: dict[str, ClipScore]) -> LipScore:
    weights = np.array([clip.num_frames for clip in per_clip.values()], float)
    gap, width, gap_amplitude, width_amplitude = (
        weighted_mean(np.array([getattr(clip, field) for clip in per_clip.values()]), weights)
        for field in FIGURES
    )
    return LipScore(method, gap, width, gap_amplitude, width_amplitude, per_clip)


def fit_linear_map(clips: Sequence[SpokenClip]) -> LinearMap:
    """From sound to z-scored lips, with the offset of each clip estimated."""
    inputs = [stack_context(sound_spectra(clip.samples)[: clip.num_frames]) for clip in clips]
    lags = estimate_lags(
        [
            SyncClip(clip.name, clip.speaker, features, clip.lips)
            for clip, features in zip(clips, inputs, strict=True)
        ]
    )
    return LinearMap(
        inputs,
        [shift_frames(clip.lips, float(lags[clip.name])) for clip in clips],
    )
