"""The whole way: a portrait and speech, or a driving video, to a talking video.

    portrait --> Portrait ----------------------------.
    speech ----> Speech --> motion model --> Motion --+--> renderer --> frames --> video file

Everything after the portrait is lazy: speech is read, motion sampled and frames rendered as the
video is written, in memory that does not grow with its length.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from moda import __version__
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
from moda.motion.retiming import TimedMotion, retime_motion
from moda.phones import PhoneSegment, read_phone_times
from moda.published import load_published_system
from moda.structures import FRAMES_PER_SECOND, Floats, Motion, MotionSpace, Picture, Renderer, Style
from moda.system import FaceSystem, FrameOptions, MotionAmounts, SpeakingOptions, require_range

DEFAULT_MODELS: Mapping[str, str] = {"mesh": "moda-tiny", "neural": "moda-base"}
"""The model that goes with each renderer."""
DEVICES = ("auto", "cpu", "cuda", "mps")
MAX_DRIVING_SECONDS = 1200.0
"""Tracking looks at the whole driving video before it knows the face at rest."""

Progress = Callable[[int, int], None]
"""Called with the number of frames written and the expected number of frames."""


Item = TypeVar("Item")


class _End(NamedTuple):
    error: BaseException | None


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

    @property
    def frame_size(self) -> tuple[int, int]:
        """(width, height)"""
        return self.renderer.frame_size

    def motion(self) -> Iterator[Motion]:
        """Stretches of motion with one row per frame, from the start each time."""
        yield from retime_motion(self.sampled_motion(), exact_rate(self.frames_per_second))

    def frames(self) -> Iterator[Picture]:
        """Frames (H, W, 3) in order, from the start each time; the same ones, bit for bit."""
        for motion in _read_ahead(self.motion()):
            yield from self.renderer.render(motion)

    def write(
        self,
        path: str | Path,
        *,
        progress: Progress | None = None,
        synthetic_metadata: bool = True,
        segments: Path | None = None,
    ) -> VideoSummary:
        """Make all frames and write them with the sound to a video file.

        The file is replaced if it exists, once the new one is whole. With ``synthetic_metadata``
        its tags say that it is synthetic. ``segments`` is an empty folder for a copy in pieces
        that can be played while the rest is made (:mod:`moda.media.segments`).

        What ``progress`` raises ends the work and leaves no file.

        Raises:
            InputError: The name does not say a known format, or is that of an input.
            OutputError: The file cannot be written.
            MediaError: The speech turns out to be damaged.
        """
        started = time.perf_counter()
        path = check_output_path(path)
        for source in self.sources:
            if path.exists() and source.exists() and path.samefile(source):
                raise InputError(f"output {path} is also an input; choose another name")
        tags = synthetic_media_tags() if synthetic_metadata else {}
        with VideoWriter(
            path,
            self.frame_size,
            self.frames_per_second,
            sound=self.sound,
            metadata=tags,
            segments=segments,
        ) as video:
            for frame in self.frames():
                video.write(frame)
                if progress is not None:
                    progress(video.num_frames, max(self.num_frames, video.num_frames))
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
        speech: str | Path,
        *,
        style: Style | None = None,
        phones: str | Path | Sequence[PhoneSegment] | None = None,
        seed: int = 0,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
        frames_per_second: float = FRAMES_PER_SECOND,
        size: int | None = None,
        full_frame: bool = True,
        head_motion: float = 1.0,
        expression: float = 1.0,
        blink: bool = True,
        eyes: float | None = None,
        lips: float | None = None,
        face: int | None = None,
    ) -> TalkingVideo:
        """Make a portrait speak.

        Args:
            portrait: File, or picture (H, W, 3).
            speech: Sound or video file; its sound becomes that of the video.
            style: Emotions over time.
            phones: What is said with its times, or a text file of it
                (:func:`moda.phones.read_phone_times`); lips are surer then. Mesh renderer only.
            seed: Another seed moves head and eyes differently.
            num_steps: Of the sampler, 1..1000; None is what the model was made for.
            guidance_scale: How much the motion follows speech and emotion, 1..10.
            frames_per_second: Of the video, 10..60.
            size: Longer side of the video in pixels, 64..2160. None is 512 with the mesh renderer,
                the picture's own size up to 1920 with the neural one.
            full_frame: The whole picture, not only the square around the head.
            head_motion: Amount of head motion, 0..2.
            expression: Amount of expression, 0..2.
            blink: Whether the eyes blink.
            eyes, lips: Opening of the portrait's own eyes and lips as a share of their width,
                0..0.8; the motion comes on top. Neural renderer only.
            face: Which face of the picture, from left to right from 1; None is the largest.

        Raises:
            InputError: An option is outside its limits.
            MediaError: A file cannot be read.
            FaceError: There is no such face in the picture.
        """
        require_range("frames per second", frames_per_second, 10, 60)
        frame_options = FrameOptions(size, full_frame, face, eyes, lips)
        amounts = MotionAmounts(head_motion, expression)
        known = read_phone_times(phones) if isinstance(phones, str | Path) else tuple(phones or ())
        options = SpeakingOptions(
            style or Style(), seed, num_steps, guidance_scale, blink, amounts, known
        )
        if known and not self.system.takes_phones:
            raise InputError(
                "this model cannot be told the phones that are said; leave them out, or choose "
                "the model moda-tiny"
            )
        sound = AudioReader(speech, SAMPLE_RATE_HZ)
        actor = self.system.prepare(_picture(portrait), frame_options)

        def speak() -> TimedMotion:
            chunks = CountedSamples(sound)
            return TimedMotion(self.system.speak(actor, chunks, options), chunks.seconds)

        expected = _frames_in(sound.duration_seconds, frames_per_second)
        sources = (sound.path, *_files(portrait))
        return TalkingVideo(actor.renderer, frames_per_second, expected, sound.path, sources, speak)

    def reenact(
        self,
        portrait: str | Path | Picture,
        driving: str | Path,
        *,
        frames_per_second: float = FRAMES_PER_SECOND,
        size: int | None = None,
        full_frame: bool = True,
        head_motion: float = 1.0,
        expression: float = 1.0,
        eyes: float | None = None,
        lips: float | None = None,
        face: int | None = None,
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
        frame_options = FrameOptions(size, full_frame, face, eyes, lips)
        amounts = MotionAmounts(head_motion, expression)
        video = VideoReader(driving)
        require_range(
            "length of the driving video in s", video.duration_seconds, 0.0, MAX_DRIVING_SECONDS
        )
        actor = self.system.prepare(_picture(portrait), frame_options)
        motion = self.system.follow(actor, lambda: _reported(video, progress), amounts)
        seconds = len(motion) / Fraction(FRAMES_PER_SECOND)
        return TalkingVideo(
            actor.renderer,
            frames_per_second,
            _frames_in(float(seconds), frames_per_second),
            video.path if video.has_sound else None,
            (video.path, *_files(portrait)),
            lambda: TimedMotion(iter([motion]), lambda: seconds),
        )


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


def synthetic_media_tags() -> dict[str, str]:
    """Tags of a video file that say, to people and to programs, that it is synthetic."""
    return {
        "title": "Synthetic media",
        "comment": f"Synthetic media: generated by MoDA {__version__} from a still photograph",
        "software": f"MoDA {__version__}",
        "synthetic_media": "true",
        "digital_source_type": (
            "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
        ),
    }


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


def _files(portrait: str | Path | Picture) -> tuple[Path, ...]:
    return () if isinstance(portrait, np.ndarray) else (Path(portrait),)


def _reported(video: VideoReader, progress: Progress | None) -> Iterator[tuple[float, Picture]]:
    expected = round(video.duration_seconds * min(video.native_rate, 60.0))
    for count, timed_picture in enumerate(video.timed_pictures(), start=1):
        if progress is not None:
            progress(count, max(count, expected))
        yield timed_picture


def _read_ahead(items: Iterator[Item], limit: int = 2) -> Iterator[Item]:
    """The same items, made in a thread while earlier ones are used; at most ``limit`` wait."""
    ready: queue.Queue[Item | _End] = queue.Queue(limit)
    stopped = threading.Event()

    def offer(item: Item | _End) -> None:
        while not stopped.is_set():
            with suppress(queue.Full):
                ready.put(item, timeout=0.1)
                break

    def work() -> None:
        try:
            for item in items:
                offer(item)
                if stopped.is_set():
                    return
        except BaseException as error:  # raised again where the items are used
            offer(_End(error))
        else:
            offer(_End(None))

    thread = threading.Thread(target=work, name="moda-sampler", daemon=True)
    thread.start()
    try:
        while not isinstance(item := ready.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        thread.join()
