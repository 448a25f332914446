"""The whole way: a portrait and speech, or a driving video, to a talking video.

    portrait --> Portrait ----------------------------.
    speech ----> Speech --> motion model --> Motion --+--> renderer --> frames --> video file

Everything after the portrait is lazy: speech is read, motion sampled and frames rendered as the
video is written, in memory that does not grow with its length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from moda.encoders.speech import SAMPLE_RATE_HZ
from moda.encoders.style import delivery_of
from moda.errors import InputError
from moda.files import ScratchFolder
from moda.media import AudioReader, VideoReader, exact_rate
from moda.media.containers import MAX_SECONDS, check_seconds
from moda.media.phone_times import read_phone_times
from moda.motion.hearing.aligning import align_phones
from moda.motion.hearing.lips import lips_of_motion
from moda.motion.rules.retiming import TimedMotion, retime_motion
from moda.options import (
    FrameOptions,
    MotionAmounts,
    SpeakingOptions,
    VideoOptions,
    document,
    of_head,
    read_options,
    require_range,
)
from moda.pipeline.read_ahead import read_ahead
from moda.pipeline.talking_video import Progress, TalkingVideo
from moda.speech_synthesis import DEFAULT_LANGUAGE, Espeak, SpokenText, synthesise
from moda.structures import (
    FRAMES_PER_SECOND,
    Floats,
    Motion,
    MotionSpace,
    Picture,
    Style,
)
from moda.structures.landmarks import Array
from moda.structures.words import TimedWord
from moda.systems.loading import load_system
from moda.systems.portraits import prepare_portrait
from moda.systems.protocol import Actor, FaceSystem

SILENT_GAP, SILENT_LEVEL = 0.005, 1e-3
"""Lips that never part further say nothing; nor does sound below this share of full scale."""
LEAST_LOSS_SECONDS, LEAST_LOSS_SHARE = 0.5, 0.02
"""Headers guess a little."""
MAX_DRIVING_SECONDS = 1200.0
"""Tracking looks at the whole driving video before it knows the face at rest."""


class TalkingHead:
    """What turns portraits and speech into videos: a motion model with the renderer it feeds."""

    def __init__(self, system: FaceSystem) -> None:
        self.system = system

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = "moda-tiny",
        *,
        device: str = "auto",
        precision: str = "float32",
        compat: str | None = None,
    ) -> TalkingHead:
        """Load a checkpoint by name, or a file, with everything that belongs to it.

        ``moda-tiny`` is inside the package; ``moda-base`` has to be downloaded once
        (``moda models download``) and comes with the neural renderer. ``precision`` and ``compat``
        are for that one: numbers of half the size on a GPU, and the released implementation's way
        of doing things where ours is different (see :mod:`moda.systems.published`).

        Raises:
            CheckpointError: There is no such checkpoint, or it is damaged.
            InputError: The device is not available, or an option does not fit the model.
            MissingExtraError: The model needs a package that is not installed.
        """
        return cls(load_system(name_or_path, device, precision, compat))

    @property
    def space(self) -> MotionSpace:
        """The motion space of the model."""
        return self.system.space

    def generate(
        self,
        portrait: str | Path | Picture,
        speech: str | Path | SpokenText,
        options: VideoOptions | None = None,
        *,
        progress: Progress | None = None,
        max_seconds: float = MAX_SECONDS,
        **changes: Any,
    ) -> TalkingVideo:
        """Make a portrait speak.

        Args:
            portrait: File, or picture (H, W, 3).
            speech: Sound or video file, whose sound becomes that of the video; or a text that has
                been spoken (:func:`moda.speech_synthesis.synthesise`) or found in a recording
                (:meth:`align`), which brings its own phones and emotions. Emotions that are chosen
                in the options come first; a :class:`Style` takes the place of those of the text.
            options: See :class:`moda.options.VideoOptions`; None are the defaults.
            progress: Called while the driving video is tracked.
            max_seconds: Longest speech, and longest driving video.
            changes: Single options by their names, as ``seed=7``; texts are read as on the command
                line.

        Raises:
            InputError: An option is unknown, or outside its limits.
            MediaError: A file cannot be read.
            FaceError: There is no such face in the picture.
        """
        options = read_options(changes, start=options, allowed=of_head())
        frame, speaking, speech, words = self._options(options, speech)
        sound = AudioReader(
            speech, SAMPLE_RATE_HZ, number=options.sound_track, max_seconds=max_seconds
        )
        actor = prepare_portrait(self.system, portrait, frame)
        if options.driving is not None:
            guide = self._follow(actor, options.driving, progress, max_seconds=max_seconds)
            speaking = replace(speaking, guide=guide)

        heard = HeardRecording(sound, speaking.amounts.expression)

        def speak() -> TimedMotion:
            chunks = heard.samples()
            return TimedMotion(
                heard.watch(self.system.speak(actor, chunks, speaking)), chunks.seconds
            )

        return _video(
            actor,
            speak,
            options,
            sound.duration_seconds,
            sound=sound.path,
            sources=(sound.path, *_files(portrait), *_files(options.driving)),
            words=words,
            heard=heard,
        )

    def _options(
        self, options: VideoOptions, speech: str | Path | SpokenText
    ) -> tuple[FrameOptions, SpeakingOptions, str | Path, tuple[TimedWord, ...]]:
        """What the system is told, the recording, and its words where they are known."""
        delivery, phones = delivery_of(options), options.phones
        style = delivery.style
        words: tuple[TimedWord, ...] = ()
        if isinstance(speech, SpokenText):
            if not isinstance(options.style, Style):
                style = Style((*style.schedule, *speech.style.schedule))
            if phones is None and self.system.takes_phones:
                phones = speech.phones
            words, speech = speech.words, speech.path
        known = read_phone_times(phones) if isinstance(phones, Path) else tuple(phones or ())
        if known and not self.system.takes_phones:
            raise InputError(
                "this model cannot be told the phones that are said; leave them out, or choose "
                "the model moda-tiny"
            )
        chosen = replace(
            options,
            head_motion=delivery.head_motion,
            expression=delivery.expression,
            blink_rate=delivery.blink_rate,
            gaze=delivery.gaze,
        )
        return options.frame(), chosen.speaking(style, known), speech, words

    def align(
        self,
        speech: str | Path,
        transcript: str,
        *,
        language: str = DEFAULT_LANGUAGE,
        sound_track: int | None = None,
    ) -> SpokenText:
        """Find out when the words of a transcript are said in a recording.

        The transcript may have tags for emotions (:mod:`moda.speech_synthesis.markup`). espeak-ng
        says how its words are pronounced, the model's speech embedder when.

        Raises:
            InputError: The transcript is not that of the recording, or cannot be used; the model
                does not recognise phones; the recording is longer than half an hour.
            MediaError: The recording cannot be read.
            MissingExtraError: espeak-ng is not installed.
        """
        sound = AudioReader(speech, SAMPLE_RATE_HZ, number=sound_track)
        with ScratchFolder("work") as folder:
            said = synthesise(
                transcript, folder / "said.wav", synthesiser=Espeak(), language=language
            )
        starts = [word.start_seconds for word in said.words]
        aligned = align_phones(self.system.hear_phones(sound), said.phones, starts)
        return said.moved_to(sound.path, sound.duration_seconds, aligned.segments)

    def reenact(
        self,
        portrait: str | Path | Picture,
        driving: str | Path,
        options: VideoOptions | None = None,
        *,
        progress: Progress | None = None,
        max_seconds: float = MAX_SECONDS,
        **changes: Any,
    ) -> TalkingVideo:
        """Make a portrait move as the face in a driving video does.

        The driving video is tracked at once, which ``progress`` reports; its sound, if it has
        one, becomes that of the video. Options and changes are as in :meth:`generate`;
        ``max_seconds`` is the longest driving video.

        Raises:
            InputError, MediaError: As :meth:`generate`.
            FaceError: The picture or the driving video shows no face.
        """
        options = read_options(changes, start=options, allowed=of_head("reenact"))
        video = VideoReader(driving)
        actor = prepare_portrait(self.system, portrait, options.frame())
        motion = self._follow(actor, driving, progress, options.amounts, max_seconds=max_seconds)
        seconds = len(motion) / Fraction(FRAMES_PER_SECOND)
        return _video(
            actor,
            lambda: TimedMotion(iter([motion]), lambda: seconds),
            options,
            float(seconds),
            sound=video.path if video.has_sound else None,
            sources=(video.path, *_files(portrait)),
        )

    def _follow(
        self,
        actor: Actor,
        driving: str | Path,
        progress: Progress | None,
        amounts: MotionAmounts | None = None,
        *,
        max_seconds: float = MAX_SECONDS,
    ) -> Motion:
        """Motion at 25 fps of the face in a driving video, all of it."""
        video, limit = VideoReader(driving), min(max_seconds, MAX_DRIVING_SECONDS)
        require_range("length of the driving video in s", video.duration_seconds, 0.0, limit)
        pictures = lambda: _reported(video, progress, limit)  # noqa: E731
        return self.system.follow(actor, pictures, amounts or MotionAmounts())


TalkingHead.generate.__doc__ = f"{TalkingHead.generate.__doc__}{document(of_head())}"


class HeardRecording:
    """What is known of a recording once motion has been made of it.

    ``expression`` is the amount of the mouth's motion.
    """

    def __init__(self, sound: AudioReader, expression: float) -> None:
        self._sound, self._least_gap = sound, SILENT_GAP * expression
        self._count = CountedSamples(sound)
        self._gaps = list[Array]()
        self.notes_at_once = sound.notes

    def samples(self) -> CountedSamples:
        """The recording from its start."""
        self._count = CountedSamples(self._sound)
        self._gaps = []
        return self._count

    def watch(self, stretches: Iterator[Motion]) -> Iterator[Motion]:
        """The same motion; how far its lips open is noted."""
        for stretch in stretches:
            if stretch.space.basis is not None:
                self._gaps.append(lips_of_motion(stretch)[0])
            yield stretch

    def notes(self) -> tuple[str, ...]:
        """That nothing was said in it, or that it ends before its header says."""
        notes = []
        name = self._sound.path.name
        gaps = np.concatenate(self._gaps) if self._gaps else np.zeros(0)
        if len(gaps) and (gaps - np.minimum.accumulate(gaps)).max() < self._least_gap:
            notes.append(f"no speech was found in {name}; the lips stay closed")
        elif not len(gaps) and self._count.loudest < SILENT_LEVEL:
            notes.append(f"no speech was found in {name}: it is silent")
        claimed, heard = self._sound.duration_seconds, float(self._count.seconds())
        loss = max(LEAST_LOSS_SECONDS, LEAST_LOSS_SHARE * claimed)
        if self._count.is_over and heard < claimed - loss:
            notes.append(
                f"{name} ends after {heard:.1f} s, though it says that it lasts {claimed:.1f} s; "
                "it may be cut off"
            )
        return tuple(notes)


class CountedSamples:
    """Passes samples on and counts them: only then is the length of a recording certain."""

    def __init__(self, reader: AudioReader) -> None:
        self._reader = reader
        self._count = 0
        self.loudest = 0.0
        """Of all samples so far, in shares of full scale."""
        self.is_over = False

    def __iter__(self) -> Iterator[Floats]:
        for chunk in self._reader:
            self._count += len(chunk)
            self.loudest = max(self.loudest, float(np.abs(chunk).max(initial=0.0)))
            yield chunk
        self.is_over = True

    def seconds(self) -> Fraction:
        """Length of what has been passed on; the last sample is due to rounding up."""
        return Fraction(max(self._count - 1, 1), self._reader.sample_rate)


def _video(
    actor: Actor,
    sampled: Callable[[], TimedMotion],
    options: VideoOptions,
    seconds: float,
    *,
    sound: Path | None,
    sources: tuple[Path, ...],
    words: tuple[TimedWord, ...] = (),
    heard: HeardRecording | None = None,
) -> TalkingVideo:
    """A video of an actor with motion that is sampled anew each time, of ``heard`` if it speaks."""
    rate, renderer = options.frames_per_second, actor.renderer

    def motion() -> Iterator[Motion]:
        yield from retime_motion(sampled(), exact_rate(rate))

    def frames() -> Iterator[Picture]:
        for stretch in read_ahead(motion()):
            yield from renderer.render(stretch)

    return TalkingVideo(
        renderer.frame_size,
        rate,
        _frames_in(seconds, rate),
        sound,
        sources,
        motion,
        frames,
        words,
        (*actor.notes, *(heard.notes_at_once if heard else ())),
        heard.notes if heard else tuple,
        sound_track=options.sound_track,
        transparent=options.is_transparent,
        moving=renderer.moving,
    )


def _frames_in(seconds: float, frames_per_second: float) -> int:
    return max(1, math.ceil(round(seconds * float(exact_rate(frames_per_second)), 3)))


def _files(source: str | Path | Picture | None) -> tuple[Path, ...]:
    return (Path(source),) if isinstance(source, str | Path) else ()


def _reported(
    video: VideoReader, progress: Progress | None, limit: float
) -> Iterator[tuple[float, Picture]]:
    expected = round(video.duration_seconds * min(video.native_rate, 60.0))
    for count, timed_picture in enumerate(video.timed_pictures(), start=1):
        if progress is not None:
            progress(count, max(count, expected))
        check_seconds(video.path, timed_picture[0], limit)  # headers lie
        yield timed_picture
