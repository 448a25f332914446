"""Video out: pictures and a copy of a sound track, encoded while later pictures are rendered."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Self

import av
import av.container
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.error import FFmpegError
from av.video.frame import VideoFrame

from moda.errors import InputError, OutputError
from moda.files import PartFile, check_outputs, why_not
from moda.media.audio import Resampler, SoundTrack
from moda.media.containers import open_media
from moda.media.formats import FORMATS, TRANSPARENT_FORMATS, PictureEncoder, check_rate
from moda.media.planes import with_surroundings
from moda.media.segments import SEGMENT_SECONDS, SegmentCopy
from moda.media.subtitle_track import SubtitleTrack
from moda.media.subtitles import Cue
from moda.structures import Floats, Metadata, Part, Picture
from moda.threads import BackgroundThread

if TYPE_CHECKING:
    from moda.media.segments import StreamPacket

QUEUE_FRAMES = 8
KEPT_SOUND_RATES_HZ = (44_100, 48_000)
OTHER_SOUND_RATE_HZ = 48_000
SOUND_BITS_PER_SECOND = {1: 128_000, 2: 192_000}


def check_output_path(
    path: str | Path, *, transparent: bool = False, inputs: Iterable[Path] = ()
) -> Path:
    """Find out before any work whether a video can be written there.

    Raises:
        InputError: The name does not end in one of :data:`moda.media.formats.FORMATS`, that format
            has no transparency where it is asked for, or the file is one of the inputs.
        OutputError: As :func:`moda.files.check_outputs`.
    """
    path = Path(path)
    formats, kind = (TRANSPARENT_FORMATS, "transparent ") if transparent else (FORMATS, "")
    if path.suffix.lower() not in formats:
        known = ", ".join(formats)
        raise InputError(
            f"{kind}output {path} ends in {path.suffix!r}; choose a name ending in {known}"
        )
    check_outputs([path], inputs)
    return path


def outputs_of(path: Path, *, subtitles: bool) -> tuple[Path, ...]:
    """The files that are written for a video: itself, and its subtitles beside it."""
    return (path, path.with_suffix(".srt")) if subtitles else (path,)


class VideoWriter:
    """Write a video file that appears whole or not at all.

    Use as a context manager; leaving it normally finishes the file and puts it in place, leaving
    it with an exception removes every trace. Encoding runs in a thread with a short queue. The
    same pictures and sound give the same bytes.

    Args:
        path: Target, replaced if it exists; see :data:`moda.media.formats.FORMATS`.
        size: (width, height) of the pictures, both even.
        frames_per_second: Constant rate.
        sound: File whose sound track is copied, cut or filled with silence to the length
            of the pictures; None for a silent video. A GIF has no sound.
        sound_track: Which track of that file, from 1; None is the default one.
        metadata: Tags of the file.
        cues: Subtitles, as a track of the file where its format has any.
        transparent: Whether pictures are RGBA.
        finish: Called with the whole file, which does not have its name yet, before it is put
            in place.
        segments: Folder for a copy in pieces that play at once (:mod:`moda.media.segments`).
        moving: The part outside of which all pictures are the same; None where that is not known.

    Raises:
        OutputError: The file cannot be written, at any time until the context is left.
        MediaError: The sound cannot be read.
    """

    def __init__(
        self,
        path: str | Path,
        size: tuple[int, int],
        frames_per_second: float = 25.0,
        *,
        sound: str | Path | None = None,
        sound_track: int | None = None,
        metadata: Metadata | None = None,
        cues: Sequence[Cue] = (),
        transparent: bool = False,
        finish: Callable[[Path], None] | None = None,
        segments: Path | None = None,
        moving: Part | None = None,
    ) -> None:
        self.path = check_output_path(path, transparent=transparent)
        check_rate(self.path, frames_per_second)
        suffix = self.path.suffix.lower()
        self._format = (TRANSPARENT_FORMATS if transparent else FORMATS)[suffix]
        self._pixels, self._num_channels = ("rgba", 4) if transparent else ("rgb24", 3)
        self._cues = tuple(cues)
        self._finish = finish
        self._segments = segments
        self.num_frames = 0
        self._size = size
        self._rate = exact_rate(frames_per_second)
        is_planar = self._format.pixels == "yuv420p"
        self._moving = with_surroundings(moving, size) if moving and is_planar else None
        self._sound = None if sound is None else Path(sound)
        self._sound_track = sound_track
        self._metadata = dict(metadata or {})
        self._frames: queue.Queue[VideoFrame | None] = queue.Queue(QUEUE_FRAMES)
        self._error: BaseException | None = None
        self._cancelled = threading.Event()
        self._thread = BackgroundThread(self._run, "moda-encoder", self._cancelled.set)

    def __enter__(self) -> Self:
        try:
            self._part = PartFile(self.path)
        except OSError as error:
            raise self._output_error(error) from error
        try:
            self._thread.start()
        except BaseException:
            self._part.__exit__()
            raise
        return self

    def write(self, frame: Picture) -> None:
        """Hand over one picture (H, W, 3), or (H, W, 4) where it is transparent.

        It may be reused by the caller afterwards.
        """
        width, height = self._size
        shape = (height, width, self._num_channels)
        if frame.shape != shape or frame.dtype != np.uint8:
            raise ValueError(f"frame is {frame.dtype} {frame.shape}, not {shape}")
        if self._moving is not None and self.num_frames > 0:
            frame = frame[self._moving]
        video_frame = VideoFrame.from_ndarray(np.ascontiguousarray(frame), self._pixels)
        video_frame.pts, video_frame.time_base = self.num_frames, 1 / self._rate
        self._put(video_frame)
        self.num_frames += 1

    def __exit__(self, *exception: object) -> None:
        try:
            if exception[0] is not None:
                self._cancelled.set()
                self._thread.join()
                return
            self._put(None)
            self._thread.join()
            self._raise_error()
            self._put_in_place()
        except BaseException:
            self._cancelled.set()
            self._thread.join()
            raise
        finally:
            self._part.__exit__()

    def _put(self, frame: VideoFrame | None) -> None:
        while True:
            self._raise_error()
            try:
                return self._frames.put(frame, timeout=0.2)
            except queue.Full:
                continue

    def _raise_error(self) -> None:
        if isinstance(self._error, FFmpegError | OSError):
            raise self._output_error(self._error) from self._error
        if self._error is not None:
            raise self._error

    def _output_error(self, error: FFmpegError | OSError) -> OutputError:
        return OutputError(f"{self.path} cannot be written {why_not(error)}")

    def _put_in_place(self) -> None:
        if self.num_frames == 0:
            raise OutputError(f"{self.path} was not written: there are no frames to write")
        try:
            if self._finish is not None:
                self._finish(self._part.path)
                self._part.lock_again()
            self._part.put_in_place()
        except OSError as error:
            raise self._output_error(error) from error

    def _run(self) -> None:
        """Body of the encoding thread."""
        try:
            self._encode()
        except BaseException as error:  # handed to the caller's thread by _raise_error
            self._error = error

    def _encode(self) -> None:
        with ExitStack() as stack:
            sound = None
            if self._sound is not None:
                source = stack.enter_context(open_media(self._sound, "sound"))
                sound = SoundTrack.of(source, self._sound, self._sound_track)
            container = stack.enter_context(
                av.open(
                    str(self._part.path),
                    "w",
                    format=self._format.container,
                    container_options=dict(self._format.muxer_options),
                )
            )
            container.metadata.update(self._metadata)
            pictures = PictureEncoder(
                container,
                self._format,
                self._size,
                self._rate,
                self._keyframe_distance,
                self._moving,
            )
            target = Muxer(container)
            sound_copy = subtitles = None
            if sound is not None and self._format.sound_codec is not None:
                sound_copy = SoundCopy(sound, target, self._format.sound_codec)
            if self._cues and self._format.subtitle_codec is not None:
                subtitles = SubtitleTrack(container, self._format.subtitle_codec, self._cues)
            if self._segments is not None:
                target.copy = stack.enter_context(SegmentCopy(self._segments, container))
            for count, frame in enumerate(self._queued(), start=1):
                if sound_copy is not None:
                    sound_copy.write_until(count / self._rate)
                target.mux(pictures.encode(frame))
                if subtitles is not None:
                    subtitles.write_until(float(count / self._rate))
            if self._cancelled.is_set():
                return
            if sound_copy is not None:
                sound_copy.finish()
            target.mux(pictures.finish())

    @property
    def _keyframe_distance(self) -> int | None:
        """In pictures, where there are pieces, which begin with key frames."""
        return None if self._segments is None else round(SEGMENT_SECONDS * self._rate)

    def _queued(self) -> Iterator[VideoFrame]:
        while not self._cancelled.is_set():
            try:
                frame = self._frames.get(timeout=0.2)
            except queue.Empty:
                continue
            if frame is None:
                return
            yield frame


class Muxer:
    """Puts packets into a container, and into a copy in pieces if there is one."""

    def __init__(self, container: av.container.OutputContainer) -> None:
        self.container = container
        self.copy: SegmentCopy | None = None

    def mux(self, packets: Iterable[StreamPacket]) -> None:
        for packet in packets:
            if self.copy is not None:
                self.copy.mux([packet])
            self.container.mux(packet)


class SoundCopy:
    """Encodes a sound track step by step, in time with the pictures."""

    def __init__(self, track: SoundTrack, target: Muxer, codec: str) -> None:
        self._target = target
        kept = track.rate_hz in (KEPT_SOUND_RATES_HZ if codec == "aac" else (OTHER_SOUND_RATE_HZ,))
        self._rate_hz = track.rate_hz if kept else OTHER_SOUND_RATE_HZ
        self._num_channels = track.num_channels
        stream = target.container.add_stream(codec, rate=self._rate_hz)
        assert isinstance(stream, AudioStream)
        self._stream = stream
        self._stream.layout = self._layout
        self._stream.bit_rate = SOUND_BITS_PER_SECOND[self._num_channels]
        self._blocks = self._resampled(track)
        self._ready = np.zeros((self._num_channels, 0), np.float32)
        self._written = 0

    @property
    def _layout(self) -> str:
        return "stereo" if self._num_channels == 2 else "mono"

    def write_until(self, seconds: Fraction) -> None:
        """Encode up to a time; silence once the track has ended."""
        missing = round(seconds * self._rate_hz) - self._written
        while self._ready.shape[1] < missing:
            block = next(self._blocks, None)
            if block is None:
                block = np.zeros((self._num_channels, missing), np.float32)
            self._ready = np.concatenate([self._ready, block], axis=1)
        samples, self._ready = self._ready[:, :missing], self._ready[:, missing:]
        samples = np.ascontiguousarray(np.clip(samples, -1.0, 1.0))
        frame = AudioFrame.from_ndarray(samples, "fltp", self._layout)
        frame.sample_rate = self._rate_hz
        frame.pts, frame.time_base = self._written, Fraction(1, self._rate_hz)
        self._written += missing
        self._target.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Encode what the encoder still holds."""
        self._target.mux(self._stream.encode(None))

    def _resampled(self, track: SoundTrack) -> Iterator[Floats]:
        resampler = Resampler(track.rate_hz, self._rate_hz, num_channels=self._num_channels)
        for block in track.blocks():
            yield resampler.push(block)
        yield resampler.finish()


def exact_rate(frames_per_second: float) -> Fraction:
    """The rate as a fraction; 29.97, 23.976 and 59.94 mean the television rates."""
    television = Fraction(round(frames_per_second) * 1000, 1001)
    if abs(float(television) - frames_per_second) < 0.005:
        return television
    return Fraction(frames_per_second).limit_denominator(1001)
