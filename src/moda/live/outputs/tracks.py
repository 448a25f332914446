"""Frames of a live head as tracks of WebRTC."""

from __future__ import annotations

import asyncio
from fractions import Fraction

import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from moda.errors import MissingExtraError
from moda.structures import Floats, Picture

try:
    from aiortc import MediaStreamTrack
    from aiortc.mediastreams import MediaStreamError
except ImportError as error:
    raise MissingExtraError("WebRTC needs aiortc; install it with: pip install aiortc") from error

SAMPLE_RATE_HZ = 48_000
VIDEO_CLOCK_HZ = 90_000
PACKET_SAMPLES = 960
"""20 ms, what Opus takes at a time."""
MAX_PENDING = {"video": 3, "audio": 50}
"""Frames and packets that may wait to be sent; older ones are dropped."""


class OutgoingTrack(MediaStreamTrack):
    """Frames put in by :meth:`offer`, in the loop's thread, in the order of time."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__()
        self._pending: asyncio.Queue[AudioFrame | VideoFrame | None] = asyncio.Queue()

    def offer(self, frame: AudioFrame | VideoFrame) -> None:
        """Take the next frame; the oldest that waits is dropped if there are too many."""
        if self._pending.qsize() >= MAX_PENDING[self.kind]:
            self._pending.get_nowait()
        self._pending.put_nowait(frame)

    async def recv(self) -> AudioFrame | VideoFrame:
        """The next frame, as aiortc asks for it."""
        frame = await self._pending.get() if self.readyState == "live" else None
        if frame is None:
            raise MediaStreamError
        return frame

    def stop(self) -> None:
        """No more frames."""
        super().stop()
        self._pending.put_nowait(None)


def video_frame(picture: Picture, number: int) -> VideoFrame:
    """A picture (H, W, 3) as the frame of this number at 25 a second."""
    frame = VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
    frame.pts, frame.time_base = number * VIDEO_CLOCK_HZ // 25, Fraction(1, VIDEO_CLOCK_HZ)
    return frame


def audio_frames(sound: Floats, start: int) -> list[AudioFrame]:
    """Sound (N,) in packets of 20 ms whose time counts from ``start``."""
    values = np.clip(np.rint(sound * 32767.0), -32768, 32767).astype(np.int16)
    frames = []
    for begin in range(0, len(values), PACKET_SAMPLES):
        frame = AudioFrame.from_ndarray(values[None, begin : begin + PACKET_SAMPLES], "s16", "mono")
        frame.sample_rate = SAMPLE_RATE_HZ
        frame.pts, frame.time_base = start + begin, Fraction(1, SAMPLE_RATE_HZ)
        frames.append(frame)
    return frames
