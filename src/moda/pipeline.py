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
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from moda import __version__
from moda.checkpoints import Checkpoint, load_checkpoint
from moda.encoders.face import FaceModels
from moda.encoders.portrait import encode_portrait
from moda.encoders.speech import SAMPLE_RATE_HZ, encode_speech
from moda.encoders.tracking import track_motion
from moda.errors import InputError
from moda.media import (
    AudioReader,
    VideoReader,
    VideoWriter,
    check_output_path,
    exact_rate,
    read_image,
)
from moda.motion.controls import scale_motion, shape_motion
from moda.motion.sampler import sample_motion, scale_group
from moda.rendering.mesh import MeshRenderer
from moda.structures import (
    FRAMES_PER_SECOND,
    Floats,
    Motion,
    MotionSpace,
    Picture,
    Renderer,
    Speech,
    Style,
)

RENDERERS = ("mesh",)
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


class TimedMotion(NamedTuple):
    """Motion at 25 fps as it is made, and how long it lasts, which shows at its end."""

    stretches: Iterator[Motion]
    seconds: Callable[[], Fraction]


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
    ) -> VideoSummary:
        """Make all frames and write them with the sound to a video file.

        The file is replaced if it exists, once the new one is whole. With ``synthetic_metadata``
        its tags say that it is synthetic.

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
            path, self.frame_size, self.frames_per_second, sound=self.sound, metadata=tags
        ) as video:
            for frame in self.frames():
                video.write(frame)
                if progress is not None:
                    progress(video.num_frames, max(self.num_frames, video.num_frames))
        seconds = float(video.num_frames / exact_rate(self.frames_per_second))
        return VideoSummary(path, video.num_frames, seconds, time.perf_counter() - started)


class TalkingHead:
    """A motion model with its face models: what turns portraits and speech into videos."""

    def __init__(self, checkpoint: Checkpoint, models: FaceModels) -> None:
        self.checkpoint = checkpoint
        self.models = models

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path = "moda-tiny", *, device: str = "auto"
    ) -> TalkingHead:
        """Load a built-in checkpoint by name, or a file.

        Raises:
            CheckpointError: There is no such checkpoint, or it is damaged.
            InputError: The device is not available.
        """
        device = choose_device(device)
        return cls(load_checkpoint(name_or_path, device), FaceModels(device))

    @property
    def space(self) -> MotionSpace:
        """The motion space of the model."""
        return self.checkpoint.space

    def generate(
        self,
        portrait: str | Path | Picture,
        speech: str | Path,
        *,
        style: Style | None = None,
        seed: int = 0,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
        frames_per_second: float = FRAMES_PER_SECOND,
        size: int = 512,
        full_frame: bool = True,
        head_motion: float = 1.0,
        expression: float = 1.0,
        blink: bool = True,
        face: int | None = None,
        renderer: str = "mesh",
    ) -> TalkingVideo:
        """Make a portrait speak.

        Args:
            portrait: File, or picture (H, W, 3).
            speech: Sound or video file; its sound becomes that of the video.
            style: Emotions over time.
            seed: Another seed moves head and eyes differently.
            num_steps: Of the sampler, 1..1000; None is what the model was made for.
            guidance_scale: How much the motion follows speech and emotion, 1..10.
            frames_per_second: Of the video, 10..60.
            size: Longer side of the video in pixels, 64..2160.
            full_frame: The whole picture, not only the square around the head.
            head_motion: Amount of head motion, 0..2.
            expression: Amount of expression, 0..2.
            blink: Whether the eyes blink.
            face: Which face of the picture, from left to right from 1; None is the largest.
            renderer: One of :data:`RENDERERS`.

        Raises:
            InputError: An option is outside its limits.
            MediaError: A file cannot be read.
            FaceError: There is no such face in the picture.
        """
        _check_video_options(frames_per_second, size, renderer)
        _check_motion_options(head_motion, expression, face)
        _check_range("seed", seed, 0, 2**63 - 1)
        sampler = self.checkpoint.config.sampler
        num_steps = sampler.num_steps if num_steps is None else num_steps
        guidance = sampler.guidance_scale if guidance_scale is None else guidance_scale
        _check_range("number of steps", num_steps, 1, 1000)
        _check_range("guidance scale", guidance, 1.0, 10.0)
        sound = AudioReader(speech, SAMPLE_RATE_HZ)
        mesh, identity = self._render(portrait, size, full_frame, face)

        def speak() -> TimedMotion:
            chunks = CountedSamples(sound)
            heard = HeardSpeech(encode_speech(chunks))
            sampled = sample_motion(
                self.checkpoint.model,
                self.space,
                heard,
                identity=identity,
                style=style,
                generator=torch.Generator().manual_seed(seed),
                num_steps=num_steps,
                guidance_scale=guidance,
                schedule=sampler.schedule,
                drop_last_step=sampler.drop_last_step,
                noise_scale=scale_group(self.space, "mouth", sampler.mouth_noise),
                gain=scale_group(self.space, "mouth", sampler.mouth_gain),
            )
            pairs = ((motion, heard.recall(len(motion))) for motion in sampled)
            shaped = shape_motion(
                pairs, seed=seed, blink=blink, head_motion=head_motion, expression=expression
            )
            return TimedMotion(shaped, chunks.seconds)

        expected = _frames_in(sound.duration_seconds, frames_per_second)
        sources = (sound.path, *_files(portrait))
        return TalkingVideo(mesh, frames_per_second, expected, sound.path, sources, speak)

    def reenact(
        self,
        portrait: str | Path | Picture,
        driving: str | Path,
        *,
        frames_per_second: float = FRAMES_PER_SECOND,
        size: int = 512,
        full_frame: bool = True,
        head_motion: float = 1.0,
        expression: float = 1.0,
        face: int | None = None,
        renderer: str = "mesh",
        progress: Progress | None = None,
    ) -> TalkingVideo:
        """Make a portrait move as the face in a driving video does.

        The driving video is tracked at once, which ``progress`` reports; its sound, if it has
        one, becomes that of the video. The other options are those of :meth:`generate`.

        Raises:
            InputError, MediaError: As :meth:`generate`.
            FaceError: The picture or the driving video shows no face.
        """
        _check_video_options(frames_per_second, size, renderer)
        _check_motion_options(head_motion, expression, face)
        video = VideoReader(driving)
        _check_range(
            "length of the driving video in s", video.duration_seconds, 0.0, MAX_DRIVING_SECONDS
        )
        mesh, _ = self._render(portrait, size, full_frame, face)
        tracked = track_motion(_reported(video, progress), self.models, self.space)
        motion = scale_motion(tracked.motion, head_motion=head_motion, expression=expression)
        seconds = len(motion) / Fraction(FRAMES_PER_SECOND)
        return TalkingVideo(
            mesh,
            frames_per_second,
            _frames_in(float(seconds), frames_per_second),
            video.path if video.has_sound else None,
            (video.path, *_files(portrait)),
            lambda: TimedMotion(iter([motion]), lambda: seconds),
        )

    def _render(
        self, portrait: str | Path | Picture, size: int, full_frame: bool, face: int | None
    ) -> tuple[Renderer, Floats]:
        """A renderer for a portrait, and the identity that goes with it."""
        image = portrait if isinstance(portrait, np.ndarray) else read_image(portrait)
        encoded = encode_portrait(image, self.space, models=self.models, face=face)
        return MeshRenderer(
            encoded, self.space, size=size // 2 * 2, full_frame=full_frame
        ), encoded.identity


class HeardSpeech:
    """Passes speech on and remembers what has not been recalled yet, to go with its motion."""

    def __init__(self, speech: Iterable[Speech]) -> None:
        self._speech = speech
        self._remembered: deque[Speech] = deque()

    def __iter__(self) -> Iterator[Speech]:
        for stretch in self._speech:
            self._remembered.append(stretch)
            yield stretch

    def recall(self, num_frames: int) -> Speech:
        """The next ``num_frames`` frames of what has been passed on."""
        parts: list[Speech] = []
        while num_frames > 0:
            stretch = self._remembered.popleft()
            parts.append(Speech(stretch.features[:num_frames], stretch.activity[:num_frames]))
            if len(stretch) > num_frames:
                rest = Speech(stretch.features[num_frames:], stretch.activity[num_frames:])
                self._remembered.appendleft(rest)
            num_frames -= len(parts[-1])
        return Speech(
            np.concatenate([part.features for part in parts]),
            np.concatenate([part.activity for part in parts]),
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


def retime_motion(timed: TimedMotion, frames_per_second: Fraction) -> Iterator[Motion]:
    """Motion at 25 fps to one row per video frame, ceil(seconds * frames_per_second) in all.

    Row n is the motion at time n / frames_per_second: the pose on a cubic through the four
    rows around it (Catmull and Rom 1974), the expression on a line, because a cubic overshoots
    where lips and lids close. At 25 frames per second nothing changes.
    """
    step = Fraction(FRAMES_PER_SECOND) / frames_per_second
    space: MotionSpace | None = None
    held: Floats = np.zeros((0, 0), np.float32)
    first = index = 0
    for motion in timed.stretches:
        held = motion.values if space is None else np.concatenate([held, motion.values])
        space = motion.space
        ready = math.ceil((first + len(held) - 2) / step)  # later ones need rows yet to come
        if ready > index:
            yield Motion(_rows_at(held, first, range(index, ready), step, space), space)
            index = ready
        used = min(max(math.floor(index * step) - 1 - first, 0), len(held) - 1)
        held, first = held[used:], first + used
    total = math.ceil(timed.seconds() * frames_per_second)
    if space is not None and total > index:
        yield Motion(_rows_at(held, first, range(index, total), step, space), space)


def _rows_at(held: Floats, first: int, frames: range, step: Fraction, space: MotionSpace) -> Floats:
    """Interpolated rows (n, D) of ``held`` (m, D), which begins at row ``first``."""
    numerators = np.arange(frames.start, frames.stop) * step.numerator
    row = numerators // step.denominator - first
    part = ((numerators % step.denominator) / step.denominator).astype(np.float32)[:, None]
    before, start, end, after = (held[np.clip(row + k, 0, len(held) - 1)] for k in (-1, 0, 1, 2))
    rows: Floats = start + part * (end - start)
    pose = space.slice("pose")
    cubic = start + 0.5 * part * (
        end - before
        + part * (2 * before - 5 * start + 4 * end - after)
        + part**2 * (3 * (start - end) + after - before)
    )  # fmt: skip
    rows[:, pose] = cubic[:, pose]
    return rows


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


def _check_video_options(frames_per_second: float, size: int, renderer: str) -> None:
    _check_range("frames per second", frames_per_second, 10, 60)
    _check_range("size in pixels", size, 64, 2160)
    if renderer not in RENDERERS:
        raise InputError(f"unknown renderer {renderer!r}; choose one of {', '.join(RENDERERS)}")


def _check_motion_options(head_motion: float, expression: float, face: int | None) -> None:
    _check_range("amount of head motion", head_motion, 0, 2)
    _check_range("amount of expression", expression, 0, 2)
    if face is not None and face < 1:
        raise InputError(f"face {face} is below 1; faces are counted from left to right from 1")


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InputError(f"{name} {value:g} is outside {low:g}..{high:g}; choose a value inside")


def _frames_in(seconds: float, frames_per_second: float) -> int:
    return max(1, math.ceil(round(seconds * float(exact_rate(frames_per_second)), 3)))


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
