"""Frames of a live head as tracks of WebRTC."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from fractions import Fraction
from typing import Any

import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from moda.errors import MissingExtraError
from moda.live.head import LiveFrame
from moda.structures import Floats, Picture
from moda.threads import BackgroundThread

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


class LoopThread:
    """An event loop that runs in a thread of its own.

    Args:
        name: of the thread.
        close: calls :meth:`end`; called when the program ends.
    """

    def __init__(self, name: str, close: Callable[[], None]) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = BackgroundThread(self._run, name, close)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def end(self, hang_up: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Hang up in the loop, then end it; nothing where it has ended."""
        if self.loop.is_closed():
            return
        closed = asyncio.run_coroutine_threadsafe(hang_up(), self.loop)
        with suppress(Exception):
            closed.result(5.0)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5.0)
        if not self._thread.is_alive():
            self.loop.close()


def offer_frame(frame: LiveFrame, video: OutgoingTrack, audio: OutgoingTrack) -> None:
    """Hand a frame of a live head to its two tracks, in the loop's thread."""
    for packet in audio_frames(frame.sound, frame.number * len(frame.sound)):
        audio.offer(packet)
    if frame.picture is not None:
        video.offer(video_frame(frame.picture, frame.number))


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
