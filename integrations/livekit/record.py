"""Half a minute of an agent, recorded as a room would get it; needs espeak-ng, and no server.

    python record.py portrait.jpg run.npz
    python ../../benchmarks/agents.py run.npz --video run.mp4

The real AgentSession, runner and synchroniser run on a room without a server: two answers, an
interruption in the second, a third one, and a rest.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from pathlib import Path

import numpy as np
from example import GREETING, espeak
from livekit.agents import Agent, AgentSession
from livekit.plugins.moda import AvatarSession, Face
from tests.rooms import FakeRoom, Seen

STORY = (
    "Let me tell you a very long story about a lighthouse, which nobody will hear to its end, "
    "because somebody interrupts me in the middle of it, as people do all the time."
)
ANSWER = "Of course. Papa and mama bought a big blue bottle. What else may I do for you?"


async def record(portrait: Path, size: int) -> tuple[Seen, float, float]:
    """What was seen and heard, when it began and when it was interrupted."""
    session = AgentSession()
    avatar = AvatarSession(Face(portrait, size=size, seed=0))
    await avatar.start(session, FakeRoom({}, "agent").join())
    assert avatar._runner is not None
    seen = Seen().watch(avatar._runner)
    await session.start(agent=Agent(instructions="You are friendly."))
    await asyncio.sleep(2.0)
    begun, seen.pictures = time.monotonic(), []
    await asyncio.sleep(1.0)
    session.say(GREETING, audio=espeak(GREETING))
    await asyncio.sleep(9.0)
    session.say(STORY, audio=espeak(STORY))
    await asyncio.sleep(6.0)
    interrupted = time.monotonic()
    await session.interrupt()
    await asyncio.sleep(1.5)
    session.say(ANSWER, audio=espeak(ANSWER))
    await asyncio.sleep(begun + 30.0 - time.monotonic())
    await session.aclose()
    await avatar.aclose()
    return seen, begun, interrupted


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("portrait", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--size", type=int, default=256)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    run, begun, interrupted = asyncio.run(record(arguments.portrait, arguments.size))
    size = (arguments.size, arguments.size, 3)
    np.savez(
        arguments.output,
        picture_times=[at - begun for at, _ in run.pictures],
        pictures=np.stack([np.frombuffer(one, np.uint8).reshape(size) for _, one in run.pictures]),
        sound_times=[at - begun for at, _, _ in run.sound],
        sound_sizes=[len(one) // 2 for _, one, _ in run.sound],
        sound=np.frombuffer(b"".join(one for _, one, _ in run.sound), "<i2"),
        sample_rate=24_000,
        interrupted=interrupted - begun,
        load=(load, os.getloadavg()[0]),
    )


if __name__ == "__main__":
    main()
