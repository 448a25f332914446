"""A live session for programs that run on asyncio: sound of any rate in, frames out.

async with await LiveStream.open("portrait.jpg") as stream:
    stream.push_pcm(pcm, sample_rate=22_050)
    async for frame in stream:
        show(frame.picture), play(frame.sound)
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Self

import numpy as np
import soxr

from moda.errors import InputError
from moda.live.head import LiveFrame, LiveHead, LiveOptions, LiveSession
from moda.media.waves import read_pcm
from moda.options import FrameOptions
from moda.pipeline import TalkingHead
from moda.structures import FRAMES_PER_SECOND, Floats, Picture

BEHIND_FRAMES = 12
"""A program that has left so many frames lying gets the next ones without their pictures."""
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 4_000, 192_000
CHECK_SECONDS = 1.0


class LiveStream:
    """A head that runs by the clock, asked and iterated over in one event loop.

    Iterating gives every frame as it is made, 25 a second, until :meth:`close`. A frame has its
    sound, and its picture unless the machine or the program is late.

    Args:
        head: nobody else may use it from now on.
    """

    def __init__(self, head: LiveHead) -> None:
        self.sample_rate = head.options.sample_rate
        """Of the sound that comes out."""
        self.frame_size = head.frame_size
        """(width, height)"""
        self.look_ahead_seconds = head.options.look_ahead_frames / FRAMES_PER_SECOND
        """By which the sound comes out later than it went in."""
        self._session = LiveSession(head, self._emit)
        self._loop: asyncio.AbstractEventLoop
        self._frames: asyncio.Queue[tuple[int, LiveFrame] | None] = asyncio.Queue()
        """Each with the number of interruptions before it; None ends."""
        self._rate: StreamedRateChange | None = None
        self._num_interruptions = self._num_interrupted = 0
        """Asked for by the program, and done by the session's thread."""

    @classmethod
    async def open(
        cls,
        portrait: str | Path | Picture,
        options: LiveOptions | None = None,
        *,
        frame: FrameOptions | None = None,
        talking: TalkingHead | None = None,
    ) -> Self:
        """A stream, loaded without holding up the event loop; of the built-in model by default.

        Raises:
            InputError, MediaError, FaceError: As :meth:`LiveHead.of`.
        """

        def load() -> LiveHead:
            model = talking or TalkingHead.from_pretrained("moda-tiny", device="cpu")
            return LiveHead.of(model, portrait, options, frame=frame, warm_up=True)

        return cls(await asyncio.to_thread(load))

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    def start(self) -> None:
        """Begin to make frames."""
        self._loop = asyncio.get_running_loop()
        self._session.start()

    async def close(self) -> None:
        """End; the iteration stops, what was not spoken is dropped."""
        await asyncio.to_thread(self._session.close)
        self._frames.put_nowait(None)

    def push(self, samples: Floats, sample_rate: int) -> None:
        """Take mono sound (N,) in -1..1 of any rate in Hz.

        Raises:
            InputError: The rate is none of sound.
        """
        if not LOWEST_RATE_HZ <= sample_rate <= HIGHEST_RATE_HZ:
            raise InputError(
                f"sound at {sample_rate} Hz is not supported; send {LOWEST_RATE_HZ} to "
                f"{HIGHEST_RATE_HZ} Hz"
            )
        if self._rate is None or self._rate.source_hz != sample_rate:
            self._end_of_rate()
            self._rate = StreamedRateChange(sample_rate, self.sample_rate)
        self._session.push(self._rate.push(samples))

    def push_pcm(self, pcm: bytes, sample_rate: int, num_channels: int = 1) -> None:
        """As :meth:`push`, from little-endian 16-bit PCM whose channels are averaged."""
        self.push(read_pcm(pcm, num_channels), sample_rate)

    def mark(self, mark: object) -> None:
        """As :meth:`LiveHead.mark`: the sound that was pushed so far is complete."""
        self._end_of_rate()
        self._session.mark(mark)

    def interrupt(self) -> None:
        """Stop speaking. No frame that is taken from now on has marks of before, nor sound but the
        fade of 5 ms to silence.
        """
        self._rate = None
        self._num_interruptions += 1
        number = self._num_interruptions

        def done(_: int) -> None:
            self._num_interrupted = number

        self._session.interrupt(done)

    def express(self, emotion: str | None, intensity: float = 1.0) -> None:
        """As :meth:`LiveSession.express`."""
        self._session.express(emotion, intensity)

    def take_rejected(self) -> str | None:
        """Why sound was not taken since this was asked last: more would wait than is allowed."""
        rejected, self._session.rejected = self._session.rejected, None
        return rejected

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LiveFrame:
        """Raises whatever has ended the session's thread."""
        item = await self._next_item()
        if item is None:
            raise StopAsyncIteration
        num_interrupted, frame = item
        if num_interrupted < self._num_interruptions:
            silence = np.zeros_like(frame.sound)
            return frame._replace(sound=silence, is_sounding=False, marks=())
        return frame

    async def _next_item(self) -> tuple[int, LiveFrame] | None:
        while True:
            try:
                async with asyncio.timeout(CHECK_SECONDS):
                    return await self._frames.get()
            except TimeoutError:
                if self._session.error is not None:
                    raise self._session.error from None

    def _end_of_rate(self) -> None:
        if self._rate is not None:
            self._session.push(self._rate.end())
            self._rate = None

    def _emit(self, frame: LiveFrame) -> None:
        """In the session's thread."""
        if self._frames.qsize() >= BEHIND_FRAMES:
            frame = frame._replace(picture=None)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._frames.put_nowait, (self._num_interrupted, frame))


class StreamedRateChange:
    """Mono sound of one rate to another, piece by piece."""

    def __init__(self, source_hz: int, target_hz: int) -> None:
        self.source_hz = source_hz
        same = source_hz == target_hz
        self._stream = None if same else soxr.ResampleStream(source_hz, target_hz, 1, "float32")

    def push(self, samples: Floats) -> Floats:
        """What can be said of the sound so far."""
        samples = np.asarray(samples, np.float32)
        return samples if self._stream is None else self._stream.resample_chunk(samples)

    def end(self) -> Floats:
        """The rest."""
        nothing = np.zeros(0, np.float32)
        return nothing if self._stream is None else self._stream.resample_chunk(nothing, last=True)
