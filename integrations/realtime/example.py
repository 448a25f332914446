"""A conversation with a face, offline from end to end; needs espeak-ng.

    python integrations/realtime/example.py portrait.jpg run.npz
    python benchmarks/agents.py run.npz --video run.mp4

The questions are recordings, the answers are known by heart (scripted_server.py), both voices are
synthesised. With --url and --api-key the same questions go to a real Realtime server. The third
question is asked while the second is being answered.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soxr
from scripted_server import RATE_HZ, ScriptedServer

from moda.live import LiveFrame, LiveOptions, LiveStream
from moda.live.realtime import RealtimeFace
from moda.media.waves import write_pcm
from moda.options import FrameOptions, SpeakingOptions
from moda.speech_synthesis import Espeak

QUESTIONS = (
    (1.0, "Good morning. Who are you?"),
    (11.0, "Will you tell me a story?"),
    (19.0, "Please stop. Say something short."),
)
"""Each with the second at which it is asked."""
ANSWERS = (
    "Good morning. My face is a photograph, and everything you see is made while I speak.",
    "Let me tell you a very long story about a lighthouse, which nobody will hear to its end, "
    "because somebody interrupts me in the middle of it, as people do all the time.",
    "Of course. Papa and mama bought a big blue bottle.",
)
SECONDS = 30.0
PACKET_SECONDS = 0.02


def spoken(text: str, voice: str | None = None) -> np.ndarray:
    """Sound (N,) in -1..1 at the rate of the protocol."""
    utterance = Espeak().speak(text, language="en-us", voice=voice, rate=1.0)
    samples = utterance.samples.astype(np.float32) / 32768.0
    return soxr.resample(samples, utterance.rate_hz, RATE_HZ).astype(np.float32)


@dataclass
class Run:
    """What was seen and heard, and when."""

    begun: float
    pictures: list[tuple[float, np.ndarray]] = field(default_factory=list)
    sound: list[tuple[float, np.ndarray]] = field(default_factory=list)
    interrupted: float = 0.0
    """When the loud sound of the last question was sent."""

    def add(self, frame: LiveFrame) -> None:
        now = time.monotonic() - self.begun
        if frame.picture is not None:
            self.pictures.append((now, frame.picture))
        if frame.is_sounding:
            free = self.sound[-1][0] + len(self.sound[-1][1]) / RATE_HZ if self.sound else 0.0
            self.sound.append((max(now, free), frame.sound))


def recorded_questions() -> np.ndarray:
    """What the microphone hears in all the time, (N,) in -1..1."""
    microphone = np.zeros(int(SECONDS * RATE_HZ), np.float32)
    for at, question in QUESTIONS:
        samples = spoken(question, voice="f3")
        microphone[int(at * RATE_HZ) :][: len(samples)] = samples
    return microphone


async def talk(face: RealtimeFace, microphone: np.ndarray, run: Run) -> None:
    """Send the questions as a microphone does."""
    size = int(PACKET_SECONDS * RATE_HZ)
    for start in range(0, len(microphone), size):
        await asyncio.sleep(run.begun + start / RATE_HZ - time.monotonic())
        packet = microphone[start : start + size]
        is_last_question = start / RATE_HZ >= QUESTIONS[-1][0]
        if not run.interrupted and is_last_question and np.sqrt(np.mean(packet**2)) > 0.02:
            run.interrupted = time.monotonic() - run.begun
        await face.hear(write_pcm(packet), RATE_HZ)


async def converse(arguments: argparse.Namespace, url: str) -> Run:
    """The whole conversation."""
    microphone = recorded_questions()
    options = LiveOptions(sample_rate=RATE_HZ, pace="ahead", speaking=SpeakingOptions(seed=0))
    framing = FrameOptions(size=arguments.size)
    stream = await LiveStream.open(arguments.portrait, options, frame=framing)
    async with RealtimeFace(url, stream, api_key=arguments.api_key) as face:
        run = Run(time.monotonic())
        talking = asyncio.create_task(talk(face, microphone, run))
        async for frame in face:
            run.add(frame)
            if talking.done():
                break
        await talking
    return run


async def offline(arguments: argparse.Namespace) -> Run:
    """With the scripted server."""
    async with ScriptedServer([write_pcm(spoken(one)) for one in ANSWERS]).serve() as url:
        return await converse(arguments, url)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("portrait", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--url", help="such as wss://api.openai.com/v1/realtime?model=gpt-realtime")
    parser.add_argument("--api-key", default=os.environ.get("OPENAI_API_KEY"))
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    conversation = converse(arguments, arguments.url) if arguments.url else offline(arguments)
    run = asyncio.run(conversation)
    np.savez(
        arguments.output,
        picture_times=[at for at, _ in run.pictures],
        pictures=np.stack([picture for _, picture in run.pictures]),
        sound_times=[at for at, _ in run.sound],
        sound_sizes=[len(sound) for _, sound in run.sound],
        sound=np.frombuffer(write_pcm(np.concatenate([one for _, one in run.sound])), "<i2"),
        sample_rate=RATE_HZ,
        interrupted=run.interrupted,
        load=(load, os.getloadavg()[0]),
    )


if __name__ == "__main__":
    main()
