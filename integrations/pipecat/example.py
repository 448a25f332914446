"""Half a minute of a bot, recorded as a client would get it; needs espeak-ng.

    python example.py portrait.jpg run.npz
    python ../../benchmarks/agents.py run.npz --video run.mp4

A real pipeline speaks three sentences, is interrupted in the second, and rests at the end. The
output transport takes sound in the time that it lasts, as a sound card does.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import time
import wave
from collections.abc import AsyncGenerator
from pathlib import Path

import numpy as np
from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputImageRawFrame,
    StartFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.services.settings import TTSSettings
from pipecat.services.tts_service import TTSService
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams
from pipecat.workers.runner import WorkerRunner
from pipecat_moda import MoDAVideoService

SENTENCES = (
    "Good morning. My face is a photograph, and everything you see is made while I speak.",
    "Let me tell you a very long story about a lighthouse, which nobody will hear to its end, "
    "because somebody interrupts me in the middle of it, as people do all the time.",
    "Of course. Papa and mama bought a big blue bottle. What else may I do for you?",
)


class EspeakTTSService(TTSService):
    """A voice without a key: espeak-ng in a process of its own."""

    def __init__(self) -> None:
        settings = TTSSettings(model="espeak-ng", voice="en-us", language=None)
        super().__init__(push_start_frame=True, push_stop_frames=True, settings=settings)

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame, None]:
        process = await asyncio.create_subprocess_exec(
            "espeak-ng", "-v", "en-us", "--stdout", "--", text, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        with wave.open(io.BytesIO(output)) as file:
            rate = file.getframerate()
        pcm = output[output.index(b"data") + 8 :]
        yield TTSAudioRawFrame(pcm[: len(pcm) // 2 * 2], rate, 1, context_id=context_id)


class RecordingTransport(BaseOutputTransport):
    """Keeps pictures and sound with the times at which they are shown and heard."""

    def __init__(self, params: TransportParams) -> None:
        super().__init__(params)
        self.begun = time.monotonic()
        self.pictures: list[tuple[float, bytes]] = []
        self.sound: list[tuple[float, bytes]] = []
        self._free_at = 0.0

    def now(self) -> float:
        return time.monotonic() - self.begun

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_video_frame(self, frame: OutputImageRawFrame) -> bool:
        self.pictures.append((self.now(), frame.image))
        return True

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        begin = max(self.now(), self._free_at)
        self._free_at = begin + len(frame.audio) / 2 / frame.sample_rate
        self.sound.append((begin, frame.audio))
        await asyncio.sleep(max(0.0, self._free_at - self.now()))
        return True


async def record(portrait: Path, size: int) -> tuple[RecordingTransport, float]:
    """A conversation, and the time of the interruption."""
    video = MoDAVideoService(portrait=portrait, size=size, seed=0)
    output = RecordingTransport(
        TransportParams(
            audio_out_enabled=True,
            video_out_enabled=True,
            video_out_width=size,
            video_out_height=size,
            audio_out_end_silence_secs=0,
        )
    )
    worker = PipelineWorker(Pipeline([EspeakTTSService(), video, output]), enable_rtvi=False)
    interrupted = 0.0

    async def talk() -> None:
        nonlocal interrupted
        while video.frame_size is None:
            await asyncio.sleep(0.1)
        await asyncio.sleep(2.0)
        output.begun, output.pictures = time.monotonic(), []
        await asyncio.sleep(1.0)
        await worker.queue_frame(TTSSpeakFrame(SENTENCES[0]))
        await asyncio.sleep(9.0)
        await worker.queue_frame(TTSSpeakFrame(SENTENCES[1]))
        await asyncio.sleep(6.0)
        interrupted = output.now()
        await worker.queue_frame(InterruptionFrame())
        await asyncio.sleep(1.5)
        await worker.queue_frame(TTSSpeakFrame(SENTENCES[2]))
        await asyncio.sleep(30.0 - output.now())
        await worker.queue_frame(EndFrame())

    runner = WorkerRunner()
    await runner.add_workers(worker)
    await asyncio.gather(runner.run(), talk())
    return output, interrupted


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("portrait", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--size", type=int, default=256)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    run, interrupted = asyncio.run(record(arguments.portrait, arguments.size))
    size = (arguments.size, arguments.size, 3)
    np.savez(
        arguments.output,
        picture_times=[at for at, _ in run.pictures],
        pictures=np.stack([np.frombuffer(one, np.uint8).reshape(size) for _, one in run.pictures]),
        sound_times=[at for at, _ in run.sound],
        sound_sizes=[len(one) // 2 for _, one in run.sound],
        sound=np.frombuffer(b"".join(one for _, one in run.sound), "<i2"),
        sample_rate=run.sample_rate,
        interrupted=interrupted,
        load=(load, os.getloadavg()[0]),
    )


if __name__ == "__main__":
    main()
