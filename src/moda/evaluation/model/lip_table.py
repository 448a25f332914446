"""The lip table: the model in clean and bad sound, beside what gives its figures meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import soxr
from numpy.typing import NDArray

from moda.data.sync import stack_context
from moda.encoders.face import FaceModels
from moda.encoders.portrait import encode_portrait
from moda.encoders.speech import SAMPLE_RATE_HZ
from moda.encoders.tracking import motion_from_landmarks
from moda.errors import FaceError
from moda.evaluation.metrics import Interval, paired_bootstrap
from moda.evaluation.model.lips import (
    LipScore,
    Predictor,
    SpokenClip,
    fit_linear_map,
    heard_by,
    known_phones,
    mean_motion,
    mean_of_seeds,
    sampled_motion,
    score,
    sound_spectra,
    takes_phones,
    whole_speech,
)
from moda.evaluation.rendered.filming import watch
from moda.motion.hearing.lips import lips_of_motion
from moda.motion.hearing.listening import join_speech
from moda.rendering.mesh.renderer import MeshRenderer
from moda.structures import FRAMES_PER_SECOND, Floats, Motion, Picture
from moda.structures.landmarks import Array
from moda.weights.checkpoints import Checkpoint

NOISE_BELOW_SPEECH_DB = 20.0
NARROW_RATE_HZ = 8_000
BABBLE_VOICES = 6
RENDER_SIZE_PX = 320

Say = Callable[[str], None]


@dataclass(frozen=True)
class Comparison:
    """The model less another one, paired over clips, with 90 % intervals."""

    other: str
    gap: Interval
    width: Interval


@dataclass(frozen=True)
class LipTable:
    """What is measured on the held-out speakers."""

    speakers: list[str]
    seconds: float
    rows: list[LipScore]
    comparison: Comparison | None = None
    notes: list[str] = field(default_factory=list)
    """What was left out, and why"""

    def markdown(self) -> list[str]:
        """Lines of the report."""
        lines = [
            f"{len(self.speakers)} held-out speakers, {self.seconds:.0f} seconds: "
            f"{', '.join(self.speakers)}. Correlation at the best lag of each clip within 6 "
            "frames, weighted by length; ± over seeds; amplitude: standard deviation over the "
            "real one.",
            "",
            "| method | lip gap r | lip width r | gap amplitude | width amplitude |",
            "|---|---|---|---|---|",
            *(row.row() for row in self.rows),
        ]
        if self.comparison is not None:
            lines += [
                "",
                f"Against {self.comparison.other}, paired over clips, 90 % interval: lip gap "
                f"{self.comparison.gap}, lip width {self.comparison.width}.",
            ]
        return lines + [f"\nLeft out: {note}." for note in self.notes]


@dataclass(frozen=True)
class LipTableOptions:
    """What the table holds besides the rows that it always has."""

    seeds: Sequence[int] = (0, 1, 2)
    compare: tuple[str, Checkpoint] | None = None
    """Name and contents of another checkpoint"""
    clip_phones: Mapping[str, NDArray[np.int8]] | None = None
    """Labels at 100 Hz by name of clip"""
    portrait: Picture | None = None
    """Of whom motion is rendered to be tracked again"""
    rendered_seconds: float = float("inf")
    """Of each clip"""


def lip_table(
    checkpoint: Checkpoint,
    clips: Sequence[SpokenClip],
    others: Sequence[SpokenClip],
    options: LipTableOptions,
    say: Say = lambda text: None,
) -> LipTable:
    """All rows. ``clips`` are the held-out ones, ``others`` fit the linear map and babble."""
    notes: list[str] = []
    say("lips: clean sound")
    own = _sampled_row("sampled", checkpoint, clips, options.seeds)
    rows = [own]
    say("lips: noise and telephone")
    for name, damaged in damaged_clips(clips, others).items():
        rows.append(_sampled_row(f"sampled, {name}", checkpoint, damaged, options.seeds))
    rows += _rows_with_phones(checkpoint, clips, options, notes)
    if checkpoint.config.motion.mouth_size:
        rows.append(
            score(
                "regression (the model's mean)",
                clips,
                lambda clip: lips_of_motion(mean_motion(checkpoint, clip.speech)),
            )
        )
    else:
        notes.append("regression, since the model predicts no mean")
    rows.append(_sampled_row("another clip's sound", checkpoint, exchanged_speech(clips), (0,)))
    rows += baselines(clips, others)
    comparison = None
    if options.compare is not None:
        say("lips: the other model")
        name, other = options.compare
        rows.append(
            _sampled_row(f"other model, {name}", other, heard_by(other, clips), options.seeds)
        )
        comparison = compare_rows(own, rows[-1], name)
    if options.portrait is None:
        notes.append("motion rendered and tracked again, since there is no portrait to render")
    else:
        say("lips: rendering and tracking")
        rows += _rendered_rows(checkpoint, clips, options.portrait, options.rendered_seconds)
    seconds = sum(clip.num_frames for clip in clips) / FRAMES_PER_SECOND
    speakers = sorted({clip.speaker for clip in clips})
    return LipTable(speakers, seconds, rows, comparison, notes)


def compare_rows(own: LipScore, other: LipScore, name: str) -> Comparison:
    """Differences of two rows over the same clips."""
    clips = list(own.per_clip)
    weights = np.array([own.per_clip[clip].num_frames for clip in clips], float)

    def interval(part: str) -> Interval:
        values = np.array(
            [[getattr(row.per_clip[clip], part) for clip in clips] for row in (own, other)]
        )
        return paired_bootstrap(values[0] - values[1], weights)

    return Comparison(name, interval("gap"), interval("width"))


def baselines(clips: Sequence[SpokenClip], others: Sequence[SpokenClip]) -> list[LipScore]:
    """Loudness, and a linear map from the sound fitted on other clips."""

    def loudness(clip: SpokenClip) -> tuple[Array, Array]:
        level = sound_spectra(clip.samples).astype(np.float64).mean(1)
        return level, level

    rows = [score("loudness", clips, loudness)]
    if others:
        linear = fit_linear_map(others)

        def mapped(clip: SpokenClip) -> tuple[Array, Array]:
            predicted = linear(stack_context(sound_spectra(clip.samples)))
            return predicted[:, 0], predicted[:, 1]

        rows.append(score("linear map", clips, mapped))
    return [replace(row, has_units=False) for row in rows]


def damaged_clips(
    clips: Sequence[SpokenClip], others: Sequence[SpokenClip]
) -> dict[str, list[SpokenClip]]:
    """The clips with white noise and babble, and as heard over a telephone of 8 kHz."""
    generator = np.random.default_rng(0)
    voices = [clip.samples for clip in (others or clips)]

    def noisy(samples: Floats) -> Floats:
        noise = make_babble(voices, len(samples), generator)
        noise = noise / (noise.std() + 1e-9) + generator.standard_normal(len(samples))
        return add_at_ratio(samples, noise, NOISE_BELOW_SPEECH_DB)

    def changed(change: Callable[[Floats], Floats]) -> list[SpokenClip]:
        return [
            replace(clip, speech=whole_speech(change(clip.samples), kind=clip.kind))
            for clip in clips
        ]

    return {
        f"white and babble noise at {NOISE_BELOW_SPEECH_DB:.0f} dB": changed(noisy),
        f"{NARROW_RATE_HZ // 1000} kHz": changed(narrow_band),
    }


def make_babble(
    voices: Sequence[Floats], num_samples: int, generator: np.random.Generator
) -> Array:
    """(num_samples,) several recordings at once, each at the same level and from a random place."""
    total = np.zeros(num_samples)
    for index in generator.integers(len(voices), size=BABBLE_VOICES):
        voice = voices[index].astype(np.float64)
        voice = np.roll(voice / (voice.std() + 1e-9), int(generator.integers(len(voice))))
        total += np.resize(voice, num_samples)
    return total


def add_at_ratio(samples: Floats, noise: Array, ratio_db: float) -> Floats:
    """Samples and noise (N,) whose powers differ by a ratio in dB."""
    power = float((samples.astype(np.float64) ** 2).mean())
    gain = np.sqrt(power / (noise**2).mean()) * 10.0 ** (-ratio_db / 20.0)
    return (samples + gain * noise).astype(np.float32)


def narrow_band(samples: Floats) -> Floats:
    """The sound after it was sampled at 8 kHz, (N,) at 16 kHz as before."""
    narrow = soxr.resample(samples, SAMPLE_RATE_HZ, NARROW_RATE_HZ)
    wide = soxr.resample(narrow, NARROW_RATE_HZ, SAMPLE_RATE_HZ)
    return np.asarray(np.resize(wide, len(samples)), np.float32)


def exchanged_speech(clips: Sequence[SpokenClip]) -> list[SpokenClip]:
    """The clips with the speech of others: all speech in a row, moved on by half."""
    whole = join_speech([clip.speech for clip in clips])
    half = len(whole) - len(whole) // 2
    joined = join_speech([whole[half:], whole[:half]])
    starts = np.cumsum([0, *(len(clip.speech) for clip in clips)])
    return [
        replace(clip, speech=joined[start : start + len(clip.speech)])
        for clip, start in zip(clips, starts[:-1], strict=True)
    ]


def _sampled_row(
    method: str, checkpoint: Checkpoint, clips: Sequence[SpokenClip], seeds: Sequence[int]
) -> LipScore:
    def of_seed(seed: int) -> Predictor:
        return lambda clip: lips_of_motion(sampled_motion(checkpoint, clip.speech, seed=seed))

    return mean_of_seeds(method, [score(method, clips, of_seed(seed)) for seed in seeds])


def _rows_with_phones(
    checkpoint: Checkpoint,
    clips: Sequence[SpokenClip],
    options: LipTableOptions,
    notes: list[str],
) -> list[LipScore]:
    labels = options.clip_phones
    if labels is None:
        return []
    if not takes_phones(checkpoint):
        notes.append("known phones, since the model takes none")
        return []
    missing = [clip.name for clip in clips if clip.name not in labels]
    if missing:
        notes.append(f"known phones, since there are none of {', '.join(missing)}")
        return []
    told = [
        replace(
            clip,
            speech=replace(clip.speech, phones=known_phones(labels[clip.name], len(clip.speech))),
        )
        for clip in clips
    ]
    return [_sampled_row("sampled, phones known", checkpoint, told, options.seeds)]


def _rendered_rows(
    checkpoint: Checkpoint, clips: Sequence[SpokenClip], picture: Picture, seconds: float
) -> list[LipScore]:
    space, models = checkpoint.space, FaceModels()
    portrait = encode_portrait(picture, space, models=models)
    renderer = MeshRenderer(portrait, space, size=RENDER_SIZE_PX, full_frame=False)

    def seen(clip: SpokenClip, motion: Motion) -> tuple[Array, Array]:
        count = int(min(clip.num_frames, seconds * FRAMES_PER_SECOND))
        try:
            face = watch(renderer.render(Motion(motion.values[:count], space)), models)
        except FaceError as error:
            raise FaceError(f"clip {clip.name}, rendered: {error}") from error
        return face.gap, face.width

    def real(clip: SpokenClip) -> tuple[Array, Array]:
        return seen(clip, motion_from_landmarks(clip.track, space)[0])

    def sampled(clip: SpokenClip) -> tuple[Array, Array]:
        return seen(clip, sampled_motion(checkpoint, clip.speech))

    return [
        score("sampled, rendered and tracked again", clips, sampled),
        score("real motion, rendered and tracked again", clips, real),
    ]
