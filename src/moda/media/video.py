"""Video in: any video file to pictures at a constant rate, in constant memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import av.container
import numpy as np
from av.error import FFmpegError
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from moda.errors import MediaError
from moda.media.colours import to_rgb
from moda.media.containers import (
    MIN_SIDE_PX,
    check_pixels,
    check_seconds,
    decode,
    open_media,
    pictures_of,
    require_decoder,
    stream_seconds,
    stream_start,
    time_zero,
)
from moda.media.interlacing import progressive
from moda.structures import Picture

MAX_PIXELS = 8192 * 4352
SEEK_MARGIN_SECONDS = 1
"""Decoders and filters need some pictures before the wanted one."""
LAST_INTERVAL_LIMITS_SECONDS = (Fraction(1, 120), Fraction(1, 5))


class TimedFrame(NamedTuple):
    """A decoded picture and when it is shown."""

    start: Fraction
    """seconds after time 0 of the file"""
    end: Fraction
    frame: VideoFrame


class Orientation(NamedTuple):
    """How a stored picture is shown: sides swapped first, then turned over."""

    swapped: bool
    left_is_right: bool
    top_is_bottom: bool

    def upright(self, picture: Picture) -> Picture:
        """A stored picture (H, W, 3) as it is shown."""
        shown = picture.transpose(1, 0, 2) if self.swapped else picture
        rows = slice(None, None, -1 if self.top_is_bottom else 1)
        columns = slice(None, None, -1 if self.left_is_right else 1)
        return np.ascontiguousarray(shown[rows, columns])


class VideoReader:
    """Upright, progressive RGB pictures of a video at a constant rate.

    Time 0 is that of :func:`moda.media.containers.time_zero`, as in the sound. The picture at time
    n / ``frames_per_second`` is the one shown then, give or take half a picture's duration, so
    jittering time stamps neither repeat nor drop pictures and a variable rate becomes a constant
    one.

    Args:
        path: Any video file that FFmpeg opens.
        frames_per_second: Of the pictures, not of the file.

    Raises:
        MediaError: The file is missing or damaged, has no pictures, or is outside the limits.
    """

    def __init__(self, path: str | Path, frames_per_second: float = 25.0) -> None:
        self.path = Path(path)
        self.frames_per_second = frames_per_second
        with open_media(self.path, "video") as container:
            stream = _video_stream(container, self.path)
            first = next(_timed_frames(container, stream, self.path), None)
            if first is None:
                raise MediaError(f"{self.path} has no pictures; give a video of a talking face")
            zero = time_zero(container)
            length = stream_seconds(container, stream) or float(first.end - first.start)
            seconds = float(stream_start(stream) - zero) + length
            check_seconds(self.path, seconds)
            self.native_rate = float(stream.average_rate or stream.guessed_rate or 25)
            self._orientation = _orientation(first.frame)
            self._size = _square_pixel_size(stream, first.frame)
            self.has_sound = bool(container.streams.audio)
            self.duration_seconds = max(seconds, 0.0)
            """What the header claims; only reading everything tells the truth."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the pictures, upright, in square pixels."""
        width, height = self._size
        return (height, width) if self._orientation.swapped else (width, height)

    def __iter__(self) -> Iterator[Picture]:
        """Yield pictures (H, W, 3) from the start, each time anew.

        A picture that is shown longer than one frame is the same array again: do not write to it.
        """
        return self.pictures_from(0)

    def pictures_from(self, first: int) -> Iterator[Picture]:
        """Yield pictures (H, W, 3) from one of them on, the same as when all are read."""
        step = 1 / Fraction(self.frames_per_second).limit_denominator(100_000)
        with open_media(self.path, "video") as container:
            stream = _video_stream(container, self.path)
            index, current, picture = first, None, None
            for upcoming in self._frames_from(container, stream, first * step):
                while current and index * step + step / 2 < upcoming.start:
                    picture = self._picture(current) if picture is None else picture
                    yield picture
                    index += 1
                current, picture = upcoming, None
            # A last picture shorter than half a step is still shown if none was since.
            while current and index * step + min(step, current.end - current.start) / 2 < (
                current.end
            ):
                picture = self._picture(current) if picture is None else picture
                yield picture
                index += 1

    def _frames_from(
        self, container: av.container.InputContainer, stream: VideoStream, seconds: Fraction
    ) -> Iterator[TimedFrame]:
        """Frames from well before a time; from the start where the file cannot say where it is."""
        wanted = seconds - SEEK_MARGIN_SECONDS
        if wanted > 0 and stream.time_base:
            with suppress(FFmpegError):
                place = int((wanted + time_zero(container)) / stream.time_base)
                container.seek(place, stream=stream)
                frames = _timed_frames(container, stream, self.path)
                first = next(frames, None)
                if first and first.frame.pts is not None and first.start <= wanted:
                    return chain([first], frames)
            container.seek(0)
        return _timed_frames(container, stream, self.path)

    def timed_pictures(self) -> Iterator[tuple[float, Picture]]:
        """Yield every picture of the file once, after its time in seconds; some may be before 0."""
        with open_media(self.path, "video") as container:
            stream = _video_stream(container, self.path)
            for timed in _timed_frames(container, stream, self.path):
                yield float(timed.start), self._picture(timed)

    def _picture(self, timed: TimedFrame) -> Picture:
        return self._orientation.upright(to_rgb(timed.frame, self._size))


def _video_stream(container: av.container.InputContainer, path: Path) -> VideoStream:
    stream = pictures_of(container)
    if stream is None:
        raise MediaError(f"{path} has no video track; give a video of a talking face")
    require_decoder(stream, path, "video")
    check_pixels(path, (stream.width, stream.height), MAX_PIXELS, "video")
    stream.thread_type = "AUTO"
    return stream


def _timed_frames(
    container: av.container.InputContainer, stream: VideoStream, path: Path
) -> Iterator[TimedFrame]:
    """Decode pictures in the order of their time, each with the time it is shown."""
    zero = time_zero(container)
    shortest, longest = LAST_INTERVAL_LIMITS_SECONDS
    end, start = stream_start(stream) - zero, None
    interval = 1 / (stream.average_rate or stream.guessed_rate or Fraction(25))
    for frame in progressive(decode(container.demux(stream), stream.decode, path, "video")):
        previous, start = start, end
        if frame.pts is not None and frame.time_base is not None:
            start = frame.pts * Fraction(frame.time_base) - zero
        if previous is not None and start > previous:
            interval = start - previous
        end = start + Fraction((frame.duration or 0) * (frame.time_base or 0))
        if end - start < shortest:  # a muxer that did not know: like the one before
            end = start + min(max(interval, shortest), longest)
        check_seconds(path, float(end))
        yield TimedFrame(start, end, frame)


def _square_pixel_size(stream: VideoStream, frame: VideoFrame) -> tuple[int, int]:
    ratio = stream.sample_aspect_ratio or Fraction(1)
    if not Fraction(1, 4) <= ratio <= 4:
        ratio = Fraction(1)
    return max(MIN_SIDE_PX, math.floor(frame.width * ratio + Fraction(1, 2))), frame.height


def _orientation(frame: VideoFrame) -> Orientation:
    """What the display matrix of a picture asks for, by quarter turns."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(data, SideData):
        return Orientation(False, False, False)
    right_right, down_right, _, right_down, down_down, *_ = np.frombuffer(bytes(data), np.int32)
    swapped = abs(int(down_right)) > abs(int(right_right))
    across, down = (right_down, down_right) if swapped else (right_right, down_down)
    return Orientation(swapped, bool(across < 0), bool(down < 0))
