"""The video service: speech goes in, pictures come out with the sound they belong to."""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path
from typing import NamedTuple

from loguru import logger
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    OutputImageRawFrame,
    StartFrame,
    SystemFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessorSetup
from pipecat.services.ai_service import AIService
from pipecat.services.settings import ServiceSettings

from moda import EmotionAt, ModaError, Style
from moda.live import LIVE_RATES_HZ, LiveFrame, LiveOptions, LiveStream
from moda.options import FrameOptions, SpeakingOptions
from moda.structures import Picture

USUAL_RATE_HZ = 24_000
MAX_QUEUED_SECONDS = 600.0


class _Voice(NamedTuple):
    """What the pieces of one utterance have in common."""

    context_id: str | None
    is_interruptible: bool
    transport_destination: str | None


class MoDAVideoService(AIService):
    """Gives a face to the speech of a pipeline; stands between speech synthesis and the output.

    Speech (``TTSAudioRawFrame``, of any sample rate) is taken, and comes out a quarter of a second
    later in pieces of 40 ms, each behind its picture (``OutputImageRawFrame`` with
    ``sync_with_audio``). 25 pictures a second come all the time, sound only while something is
    spoken. What follows speech in the pipeline stays behind it; an interruption ends both at once.

    The output transport needs ``audio_out_enabled`` and ``video_out_enabled``, the width and height
    that the service logs when it is ready, and ``video_out_is_live=False``.

    Args:
        portrait: a picture file, or RGB pixels (H, W, 3).
        size: longer side of the pictures in pixels.
        crop: show head and shoulders only.
        emotion: one of ``moda.EMOTIONS``.
        intensity: of the emotion, 0 to 1.
        seed: of the small movements; None derives one from the portrait.
        **kwargs: as of every ``AIService``.
    """

    def __init__(
        self,
        *,
        portrait: str | Path | Picture,
        size: int = 512,
        crop: bool = False,
        emotion: str | None = None,
        intensity: float = 1.0,
        seed: int | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__(settings=ServiceSettings(model="moda-tiny"), **kwargs)
        self._portrait = portrait
        self._framing = FrameOptions(size=size, full_frame=not crop)
        style = Style((EmotionAt(0.0, emotion, intensity),))
        self._speaking = SpeakingOptions(style=style, seed=seed)
        self._stream: LiveStream | None = None
        """None: there is no face, and speech goes through as it is."""
        self._task: asyncio.Task[None] | None = None
        self._held: deque[Frame | _Voice | asyncio.Future[None]] = deque()
        """What waits until the speech before it has been heard."""
        self._pushed_voice: _Voice | None = None
        self._heard_voice = _Voice(None, True, None)
        self._is_heard = False
        self._num_interruptions = 0

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """(width, height) of the pictures; None before the service is set up."""
        return None if self._stream is None else self._stream.frame_size

    def express(self, emotion: str | None, intensity: float = 1.0) -> None:
        """Another emotion from now on; None for none. Raises ``moda.InputError``."""
        if self._stream is not None:
            self._stream.express(emotion, intensity)

    async def setup(self, setup: FrameProcessorSetup) -> None:
        """Load model and portrait, without holding up the pipeline's event loop."""
        await super().setup(setup)
        rate = setup.audio_out_sample_rate
        options = LiveOptions(
            sample_rate=rate if rate in LIVE_RATES_HZ else USUAL_RATE_HZ,
            pace="ahead",
            speaking=self._speaking,
            max_queued_seconds=MAX_QUEUED_SECONDS,
        )
        try:
            self._stream = await LiveStream.open(self._portrait, options, frame=self._framing)
        except ModaError as error:
            await self._give_up(error)
        else:
            width, height = self._stream.frame_size
            logger.info(f"{self}: video_out_width={width}, video_out_height={height}")

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Take speech, hold what follows it, pass on the rest."""
        await super().process_frame(frame, direction)
        if isinstance(frame, StartFrame):
            await self.push_frame(frame, direction)
            if self._stream is not None:
                self._stream.start()
                self._task = self.create_task(self._show())
        elif self._stream is None or direction is FrameDirection.UPSTREAM:
            await self.push_frame(frame, direction)
        elif isinstance(frame, TTSAudioRawFrame):
            self._speak(self._stream, frame)
        elif isinstance(frame, InterruptionFrame):
            await self._interrupt(self._stream)
            await self.push_frame(frame, direction)
        elif isinstance(frame, SystemFrame):
            await self.push_frame(frame, direction)
        elif frame.pts and not isinstance(frame, TTSStoppedFrame):
            frame.pts += int(self._stream.look_ahead_seconds * 1e9)
            await self.push_frame(frame, direction)
        elif self._held or self._is_heard or self._pushed_voice:
            self._hold(self._stream, frame)
        else:
            await self.push_frame(frame, direction)

    async def stop(self, frame: EndFrame) -> None:
        """Say what is left, then end."""
        await super().stop(frame)
        if self._stream is not None and self._task is not None:
            said = asyncio.get_running_loop().create_future()
            self._hold(self._stream, said)
            await said
        await self._end()

    async def cancel(self, frame: CancelFrame) -> None:
        """End at once."""
        await super().cancel(frame)
        await self._end()

    async def cleanup(self) -> None:
        """Release the model."""
        await super().cleanup()
        await self._end()

    def _speak(self, stream: LiveStream, frame: TTSAudioRawFrame) -> None:
        voice = _Voice(frame.context_id, frame.interruptible, frame.transport_destination)
        if voice != self._pushed_voice:
            self._hold(stream, voice)
            self._pushed_voice = voice
        stream.push_pcm(frame.audio, frame.sample_rate, frame.num_channels)

    def _hold(self, stream: LiveStream, item: Frame | _Voice | asyncio.Future[None]) -> None:
        if isinstance(item, TTSStoppedFrame):
            self._pushed_voice = None
        self._held.append(item)
        stream.mark(item)

    async def _interrupt(self, stream: LiveStream) -> None:
        voices = [item for item in self._held if isinstance(item, _Voice)]
        if self._is_heard:
            voices.append(self._heard_voice)
        if not all(voice.is_interruptible for voice in voices):
            return
        stream.interrupt()
        await self._drop_held()

    async def _drop_held(self) -> None:
        self._num_interruptions += 1
        self._is_heard, self._pushed_voice = False, None
        held, self._held = self._held, deque()
        for item in held:
            if isinstance(item, asyncio.Future) or (
                isinstance(item, Frame) and not item.interruptible
            ):
                await self._release(item)

    async def _release(self, item: Frame | _Voice | asyncio.Future[None]) -> None:
        if isinstance(item, Frame):
            await self.push_frame(item)
        elif isinstance(item, _Voice):
            self._heard_voice = item
        elif not item.done():
            item.set_result(None)

    async def _show(self) -> None:
        """Pass on pictures and sound as they are made."""
        stream = self._stream
        assert stream is not None
        try:
            async for frame in stream:
                await self._push_live(stream, frame)
                if rejected := stream.take_rejected():
                    await self.push_error(f"speech was not taken: {rejected}")
        except Exception as error:
            await self._give_up(error)

    async def _push_live(self, stream: LiveStream, frame: LiveFrame) -> None:
        num_interruptions = self._num_interruptions
        if frame.picture is not None:
            image = OutputImageRawFrame(frame.picture.tobytes(), stream.frame_size, "RGB")
            image.sync_with_audio = True
            await self.push_frame(image)
        if num_interruptions != self._num_interruptions:
            return
        self._is_heard = frame.is_sounding
        if frame.is_sounding:
            voice = self._heard_voice
            sound = TTSAudioRawFrame(
                frame.pcm(), stream.sample_rate, 1, context_id=voice.context_id
            )
            sound.interruptible = voice.is_interruptible
            sound.transport_destination = voice.transport_destination
            await self.push_frame(sound)
        for _ in frame.marks:
            if num_interruptions == self._num_interruptions:
                await self._release(self._held.popleft())

    async def _give_up(self, error: Exception) -> None:
        """There is no face any more; the voice goes on without it."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()
        await self._drop_held()
        await self.push_error(f"no face: {error}", exception=error, force_treat_as_permanent=True)

    async def _end(self) -> None:
        task, self._task = self._task, None
        stream, self._stream = self._stream, None
        if task is not None:
            await self.cancel_task(task)
        if stream is not None:
            await stream.close()
        await self._drop_held()
