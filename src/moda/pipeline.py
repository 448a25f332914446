"""The whole way: a portrait and speech, or a driving video, to a talking video.

    portrait --> Portrait ----------------------------.
    speech ----> Speech --> motion model --> Motion --+--> renderer --> frames --> video file

Everything after the portrait is lazy: speech is read, motion sampled and frames rendered as the
video is written, in memory that does not grow with its length.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch

from moda.checkpoints import load_checkpoint
from moda.embedded import EmbeddedSystem
from moda.encoders.face import FaceModels
from moda.encoders.speech import SAMPLE_RATE_HZ
from moda.errors import InputError
from moda.hub import find_model
from moda.media import (
    AudioReader,
    VideoReader,
    VideoWriter,
    check_output_path,
    exact_rate,
    read_image,
)
from moda.motion.aligning import align_phones
from moda.motion.retiming import TimedMotion, retime_motion
from moda.phones import PhoneSegment, read_phone_times
from moda.provenance import (
    MIME_TYPES,
    ManifestSigner,
    SigningIdentity,
    can_sign,
    synthetic_media_tags,
)
from moda.published import load_published_system
from moda.read_ahead import read_ahead
from moda.speech_synthesis import DEFAULT_LANGUAGE, Espeak, SpokenText, synthesise
from moda.structures import (
    FRAMES_PER_SECOND,
    Background,
    Floats,
    Motion,
    MotionSpace,
    Picture,
    Renderer,
    Style,
)
from moda.subtitles import TimedWord, make_cues, write_srt
from moda.system import (
    Actor,
    FaceSystem,
    FrameOptions,
    Gaze,
    MotionAmounts,
    SpeakingOptions,
    require_range,
)

DEFAULT_MODELS: Mapping[str, str] = {"mesh": "moda-tiny", "neural": "moda-base"}
"""The model that goes with each renderer."""
DEVICES = ("auto", "cpu", "cuda", "mps")
MAX_DRIVING_SECONDS = 1200.0
"""Tracking looks at the whole driving video before it knows the face at rest."""

Progress = Callable[[int, int], None]
"""Called with the number of frames written and the expected number of frames."""


class VideoSummary(NamedTuple):
    """What was written."""

    path: Path
    num_frames: int
    seconds: float
    """Length of the video."""
    wall_seconds: float
    """Time it took to sample, render and write."""

    @property
    def real_time_factor(self) -> float:
        """Time taken over the length of the video; below 1 is faster than real time."""
        return self.wall_seconds / self.seconds


@dataclass(frozen=True)
class TalkingVideo:
    """A video that does not exist yet; its frames are made when they are asked for."""

    renderer: Renderer
    frames_per_second: float
    num_frames: int
    """Expected; the header of a sound file may be wrong about its length."""
    sound: Path | None
    sources: tuple[Path, ...]
    """Files that must not be overwritten while the video is made of them."""
    sampled_motion: Callable[[], TimedMotion]
    words: tuple[TimedWord, ...] = ()
    """What is said and when, where that is known: for subtitles."""
    transparent: bool = False
    """Whether frames are (H, W, 4)."""
    made_from: str = "a still photograph"
    """In words, for what the file says of itself."""

    @property
    def frame_size(self) -> tuple[int, int]:
        """(width, height)"""
        return self.renderer.frame_size

    def motion(self) -> Iterator[Motion]:
        """Stretches of motion with one row per frame, from the start each time."""
        yield from retime_motion(self.sampled_motion(), exact_rate(self.frames_per_second))

    def frames(self) -> Iterator[Picture]:
        """Frames (H, W, 3) in order, from the start each time; the same ones, bit for bit.

        Those of a transparent video are (H, W, 4).
        """
        for motion in read_ahead(self.motion()):
            yield from self.renderer.render(motion)

    def write(
        self,
        path: str | Path,
        *,
        progress: Progress | None = None,
        synthetic_metadata: bool = True,
        identity: SigningIdentity | None = None,
        subtitles: bool = False,
        segments: Path | None = None,
    ) -> VideoSummary:
        """Make all frames and write them with the sound to a video file.

        The file is replaced if it exists, once the new one is whole.

        Args:
            path: .mp4, .mov, .mkv, .webm or .gif; transparent videos .webm, .mov or .gif.
            progress: Called after every frame; what it raises ends the work and leaves no file.
            synthetic_metadata: Whether the file says that it is synthetic: in its tags and, where
                c2pa-python is installed and the format can carry it, in a signed manifest.
            identity: Whose signature that is; without one, that of nobody in particular.
            subtitles: Write the words as subtitles, into the file and into one beside it that ends
                in .srt.
            segments: Empty folder for a copy in pieces that play while the rest is made, see
                :mod:`moda.media.segments`.

        Raises:
            InputError: The name does not say a known format, or is that of an input; the words are
                not known; the certificate cannot be used.
            OutputError: The file cannot be written.
            MediaError: The speech turns out to be damaged.
            MissingExtraError: There is an identity, and c2pa-python is not installed.
        """
        started = time.perf_counter()
        path = check_output_path(path, transparent=self.transparent)
        for source in self.sources:
            if path.exists() and source.exists() and path.samefile(source):
                raise InputError(f"output {path} is also an input; choose another name")
        if subtitles and not self.words:
            raise InputError(
                "subtitles need the words that are said; give a text or a transcript, or leave "
                "them out"
            )
        cues = make_cues(self.words) if subtitles else ()
        signer = None
        if synthetic_metadata and path.suffix.lower() in MIME_TYPES:
            if identity is not None or can_sign():
                signer = ManifestSigner(identity, path.suffix, self.made_from)
        elif identity is not None:
            raise InputError(
                f"{path.name} cannot be signed: only {', '.join(MIME_TYPES)} carry a manifest, and "
                "only with their other metadata"
            )
        with VideoWriter(
            path,
            self.frame_size,
            self.frames_per_second,
            sound=self.sound,
            metadata=synthetic_media_tags(self.made_from) if synthetic_metadata else {},
            cues=cues,
            transparent=self.transparent,
            finish=signer,
            segments=segments,
        ) as video:
            for frame in self.frames():
                video.write(frame)
                if progress is not None:
                    progress(video.num_frames, max(self.num_frames, video.num_frames))
        if subtitles:
            write_srt(path.with_suffix(".srt"), cues)
        seconds = float(video.num_frames / exact_rate(self.frames_per_second))
        return VideoSummary(path, video.num_frames, seconds, time.perf_counter() - started)


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
        of doing things where ours is different (see :mod:`moda.published`).

        Raises:
            CheckpointError: There is no such checkpoint, or it is damaged.
            InputError: The device is not available, or an option does not fit the model.
            MissingExtraError: The model needs a package that is not installed.
        """
        device = choose_device(device)
        path = find_model(name_or_path) if name_or_path == "moda-base" else name_or_path
        checkpoint = load_checkpoint(path, device)
        if checkpoint.space.name == "neural":
            return cls(load_published_system(checkpoint, device, precision, compat))
        if precision != "float32" or compat is not None:
            raise InputError(
                f"precision {precision} and compat {compat} are options of moda-base, not of "
                f"{checkpoint.config.name}; leave them out, or choose moda-base"
            )
        return cls(EmbeddedSystem(checkpoint, FaceModels(device)))

    @property
    def space(self) -> MotionSpace:
        """The motion space of the model."""
        return self.system.space

    def generate(
        self,
        portrait: str | Path | Picture,
        speech: str | Path | SpokenText,
        *,
        style: Style | None = None,
        phones: str | Path | Sequence[PhoneSegment] | None = None,
        seed: int | None = None,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
        frames_per_second: float = FRAMES_PER_SECOND,
        size: int | Literal["own"] | None = None,
        full_frame: bool = True,
        head_motion: float = 1.0,
        expression: float = 1.0,
        blink: bool = True,
        blink_rate: float | None = None,
        gaze: Gaze | None = None,
        lips_only: bool = False,
        driving: str | Path | None = None,
        background: Background | None = None,
        eyes: float | None = None,
        lips: float | None = None,
        face: int | None = None,
        progress: Progress | None = None,
    ) -> TalkingVideo:
        """Make a portrait speak.

        Args:
            portrait: File, or picture (H, W, 3).
            speech: Sound or video file, whose sound becomes that of the video; or a text that has
                been spoken (:func:`moda.speech_synthesis.synthesise`) or found in a recording
                (:meth:`align`), which brings its own phones and emotions.
            style: Emotions over time.
            phones: What is said with its times, or a text file of it
                (:func:`moda.phones.read_phone_times`); lips are surer then. Mesh renderer only.
            seed: Another seed is another performance; None derives one from portrait and speech.
            num_steps: Of the sampler, 1..1000; None is what the model was made for.
            guidance_scale: How much the motion follows speech and emotion, 1..10.
            frames_per_second: Of the video, 10..60.
            size: Longer side of the video in pixels, 64..4096, or ``"own"``, that of the picture.
                None is 512 with the mesh renderer, the picture's own up to 1920 with the neural.
            full_frame: The whole picture, not only the square around the head.
            head_motion: Amount of head motion, 0..2.
            expression: Amount of expression, 0..2.
            blink: Whether the eyes blink.
            blink_rate: Blinks a minute, 0..60; None is as people do. Mesh renderer only.
            gaze: ``"camera"`` or ``"wander"``, which is usual. Mesh renderer only.
            lips_only: Nothing but the mouth moves, or, with a driving video, what else moves is
                that video's alone.
            driving: Video whose head, brows and eyes are copied, with the lips of the speech. It
                runs back and forth until the speech ends.
            background: What is behind the person; None is the picture. Mesh renderer only.
            eyes, lips: Opening of the portrait's own eyes and lips as a share of their width,
                0..0.8; the motion comes on top. Neural renderer only.
            face: Which face of the picture, from left to right from 1; None is the largest.
            progress: Called while the driving video is tracked.

        Raises:
            InputError: An option is outside its limits.
            MediaError: A file cannot be read.
            FaceError: There is no such face in the picture.
        """
        require_range("frames per second", frames_per_second, 10, 60)
        words: tuple[TimedWord, ...] = ()
        if isinstance(speech, SpokenText):
            style = speech.style if style is None else style
            phones = speech.phones if phones is None and self.system.takes_phones else phones
            words, speech = speech.words, speech.path
        frame_options = FrameOptions(size, full_frame, face, eyes, lips, background)
        known = read_phone_times(phones) if isinstance(phones, str | Path) else tuple(phones or ())
        options = SpeakingOptions(
            style=style or Style(),
            seed=seed,
            num_steps=num_steps,
            guidance_scale=guidance_scale,
            blink=blink,
            blink_rate=blink_rate,
            gaze=gaze,
            lips_only=lips_only,
            amounts=MotionAmounts(head_motion, expression),
            phones=known,
        )
        if known and not self.system.takes_phones:
            raise InputError(
                "this model cannot be told the phones that are said; leave them out, or choose "
                "the model moda-tiny"
            )
        sound = AudioReader(speech, SAMPLE_RATE_HZ)
        actor = self.system.prepare(_picture(portrait), frame_options)
        if driving is not None:
            options = replace(options, guide=self._follow(actor, driving, progress))

        def speak() -> TimedMotion:
            chunks = CountedSamples(sound)
            return TimedMotion(self.system.speak(actor, chunks, options), chunks.seconds)

        expected = _frames_in(sound.duration_seconds, frames_per_second)
        sources = (sound.path, *_files(portrait), *_files(driving))
        return TalkingVideo(
            actor.renderer,
            frames_per_second,
            expected,
            sound.path,
            sources,
            speak,
            words,
            transparent=background is not None and background.colour is None,
        )

    def align(
        self, speech: str | Path, transcript: str, *, language: str = DEFAULT_LANGUAGE
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
        sound = AudioReader(speech, SAMPLE_RATE_HZ)
        with tempfile.TemporaryDirectory(prefix="moda-") as folder:
            said = synthesise(
                transcript, Path(folder) / "said.wav", synthesiser=Espeak(), language=language
            )
        starts = [word.start_seconds for word in said.words]
        shares = self.system.hear_phones(sound)
        aligned = align_phones(shares, said.phones, starts)
        return said.moved_to(sound.path, sound.duration_seconds, aligned.segments)

    def reenact(
        self,
        portrait: str | Path | Picture,
        driving: str | Path,
        *,
        frames_per_second: float = FRAMES_PER_SECOND,
        size: int | Literal["own"] | None = None,
        full_frame: bool = True,
        head_motion: float = 1.0,
        expression: float = 1.0,
        eyes: float | None = None,
        lips: float | None = None,
        face: int | None = None,
        background: Background | None = None,
        progress: Progress | None = None,
    ) -> TalkingVideo:
        """Make a portrait move as the face in a driving video does.

        The driving video is tracked at once, which ``progress`` reports; its sound, if it has
        one, becomes that of the video. The other options are those of :meth:`generate`.

        Raises:
            InputError, MediaError: As :meth:`generate`.
            FaceError: The picture or the driving video shows no face.
        """
        require_range("frames per second", frames_per_second, 10, 60)
        frame_options = FrameOptions(size, full_frame, face, eyes, lips, background)
        amounts = MotionAmounts(head_motion, expression)
        video = VideoReader(driving)
        actor = self.system.prepare(_picture(portrait), frame_options)
        motion = self._follow(actor, driving, progress, amounts)
        seconds = len(motion) / Fraction(FRAMES_PER_SECOND)
        return TalkingVideo(
            actor.renderer,
            frames_per_second,
            _frames_in(float(seconds), frames_per_second),
            video.path if video.has_sound else None,
            (video.path, *_files(portrait)),
            lambda: TimedMotion(iter([motion]), lambda: seconds),
            transparent=background is not None and background.colour is None,
        )

    def _follow(
        self,
        actor: Actor,
        driving: str | Path,
        progress: Progress | None,
        amounts: MotionAmounts | None = None,
    ) -> Motion:
        """Motion at 25 fps of the face in a driving video, all of it."""
        video = VideoReader(driving)
        require_range(
            "length of the driving video in s", video.duration_seconds, 0.0, MAX_DRIVING_SECONDS
        )
        pictures = lambda: _reported(video, progress)  # noqa: E731
        return self.system.follow(actor, pictures, amounts or MotionAmounts())


class CountedSamples:
    """Passes samples on and counts them: only then is the length of a recording certain."""

    def __init__(self, reader: AudioReader) -> None:
        self._reader = reader
        self._count = 0

    def __iter__(self) -> Iterator[Floats]:
        for chunk in self._reader:
            self._count += len(chunk)
            yield chunk

    def seconds(self) -> Fraction:
        """Length of what has been passed on; the last sample is due to rounding up."""
        return Fraction(max(self._count - 1, 1), self._reader.sample_rate)


def choose_device(name: str) -> str:
    """The device to compute on: ``auto`` prefers CUDA, then MPS, then the CPU.

    Raises:
        InputError: The name is unknown, or there is no such device here.
    """
    if name not in DEVICES:
        raise InputError(f"unknown device {name!r}; choose one of {', '.join(DEVICES)}")
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return next(device for device, is_there in available.items() if is_there)
    if not available[name]:
        raise InputError(f"device {name!r} is not available here; choose cpu or auto")
    return name


def _frames_in(seconds: float, frames_per_second: float) -> int:
    return max(1, math.ceil(round(seconds * float(exact_rate(frames_per_second)), 3)))


def _picture(portrait: str | Path | Picture) -> Picture:
    return portrait if isinstance(portrait, np.ndarray) else read_image(portrait)


def _files(source: str | Path | Picture | None) -> tuple[Path, ...]:
    return (Path(source),) if isinstance(source, str | Path) else ()


def _reported(video: VideoReader, progress: Progress | None) -> Iterator[tuple[float, Picture]]:
    expected = round(video.duration_seconds * min(video.native_rate, 60.0))
    for count, timed_picture in enumerate(video.timed_pictures(), start=1):
        if progress is not None:
            progress(count, max(count, expected))
        yield timed_picture
