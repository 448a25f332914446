"""Sound of an agent in, pictures with their sound out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from livekit import rtc
from livekit.agents.voice.avatar import AudioSegmentEnd
from livekit.agents.voice.avatar import VideoGenerator as BaseVideoGenerator

from moda.live import LiveStream

from .log import logger


class VideoGenerator(BaseVideoGenerator):
    """Makes 25 pictures a second all the time, and sound while something is said.

    The first iteration starts the stream, :meth:`aclose` ends it.
    """

    def __init__(self, stream: LiveStream) -> None:
        self._stream = stream
        self._num_interruptions = 0
        self.before_picture: Callable[[], None] = lambda: None
        """Called before each picture is given out."""

    async def push_audio(self, frame: rtc.AudioFrame | AudioSegmentEnd) -> None:
        """Take sound of any rate; the end of a segment comes out when it has been heard."""
        if isinstance(frame, AudioSegmentEnd):
            self._stream.mark(frame)
        else:
            self._stream.push_pcm(bytes(frame.data), frame.sample_rate, frame.num_channels)

    def clear_buffer(self) -> None:
        """Stop speaking at once."""
        self._num_interruptions += 1
        self._stream.interrupt()

    async def aclose(self) -> None:
        """End the iteration."""
        await self._stream.close()

    def __aiter__(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        return self._frames()

    async def _frames(
        self,
    ) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        self._stream.start()
        width, height = self._stream.frame_size
        picture = bytes(width * height * 3)
        async for frame in self._stream:
            num_interruptions = self._num_interruptions
            if frame.picture is not None:
                picture = frame.picture.tobytes()
            self.before_picture()
            yield rtc.VideoFrame(width, height, rtc.VideoBufferType.RGB24, picture)
            if frame.is_sounding and num_interruptions == self._num_interruptions:
                yield rtc.AudioFrame(frame.pcm(), self._stream.sample_rate, 1, len(frame.sound))
            for mark in frame.marks:
                if isinstance(mark, AudioSegmentEnd) and (
                    num_interruptions == self._num_interruptions
                ):
                    yield mark
            if rejected := self._stream.take_rejected():
                logger.warning("speech was not taken: %s", rejected)
