"""Live picture and sound to a server that takes RTMP, such as those of video platforms."""

from __future__ import annotations

import threading
from fractions import Fraction
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.error import FFmpegError
from av.video.frame import VideoFrame

from moda.errors import InputError, OutputError
from moda.live.head import LiveFrame
from moda.structures import FRAMES_PER_SECOND, Picture

SCHEMES = ("rtmp", "rtmps")
KEYFRAME_FRAMES = 50
"""Platforms want a picture that stands alone every 2 s."""
VIDEO_BITS, AUDIO_BITS = 2_500_000, 128_000
OPTIONS = {"preset": "veryfast", "tune": "zerolatency", "bf": "0"}


class RtmpOutput:
    """H.264 and AAC in FLV, sent as they are made.

    A frame without a new picture repeats the last one, for the platform counts 25 a second.

    Args:
        address: ``rtmp://host/application/key``.
        frame_size: (width, height), both even.
        sample_rate: of the sound.

    Raises:
        InputError: The address is none of RTMP.
        OutputError: The server cannot be reached, or hangs up; also from :meth:`show`.
    """

    def __init__(self, address: str, frame_size: tuple[int, int], sample_rate: int) -> None:
        parts = urlsplit(address)
        if parts.scheme not in SCHEMES or not parts.hostname:
            raise InputError(
                f"{address!r} is no address of a stream; give one such as rtmp://host/app/key"
            )
        self._host = parts.hostname
        self._lock = threading.Lock()
        try:
            self._container = av.open(address, "w", format="flv", timeout=10.0)
            self._video = self._container.add_stream(
                "libx264", rate=Fraction(FRAMES_PER_SECOND), options=OPTIONS
            )
            self._audio = self._container.add_stream("aac", rate=sample_rate, layout="mono")
            self._video.width, self._video.height = frame_size
            self._video.pix_fmt = "yuv420p"
            self._video.bit_rate, self._audio.bit_rate = VIDEO_BITS, AUDIO_BITS
            self._video.codec_context.gop_size = KEYFRAME_FRAMES
            self._container.start_encoding()  # connects
        except (FFmpegError, OSError, ValueError) as error:
            raise self._error(error) from None
        self._rate = sample_rate
        self._resampler = AudioResampler(format="fltp", layout="mono", rate=sample_rate)
        self._last: Picture = np.zeros((frame_size[1], frame_size[0], 3), np.uint8)
        self._is_open = True

    def show(self, frame: LiveFrame) -> None:
        """Send a frame; blocks while the network is slow. After an error nothing is sent."""
        if frame.picture is not None:
            self._last = frame.picture
        picture = VideoFrame.from_ndarray(self._last, "rgb24")
        picture.pts, picture.time_base = frame.number, Fraction(1, int(FRAMES_PER_SECOND))
        sound = AudioFrame.from_ndarray(frame.sound[None].astype(np.float32), "fltp", "mono")
        sound.sample_rate = self._rate
        sound.pts = frame.number * len(frame.sound)
        sound.time_base = Fraction(1, self._rate)
        with self._lock:
            if not self._is_open:
                return
            try:
                self._container.mux(self._video.encode(picture))
                for part in self._resampler.resample(sound):
                    self._container.mux(self._audio.encode(part))
            except (FFmpegError, OSError) as error:
                self._is_open = False
                raise self._error(error) from None

    def close(self) -> None:
        """Send what waits and hang up."""
        with self._lock:
            if not self._is_open:
                return
            self._is_open = False
            try:
                self._container.mux(self._video.encode(None))
                self._container.mux(self._audio.encode(None))
                self._container.close()
            except (FFmpegError, OSError) as error:
                raise self._error(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _error(self, error: Exception) -> OutputError:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return OutputError(
            f"the stream to {self._host} broke off ({reason}); is the server there, and the key "
            "in the address right?"
        )
