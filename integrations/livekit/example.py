"""An agent with a face in one file; its voice is espeak-ng, so that it needs no model and no key.

    LIVEKIT_URL=... LIVEKIT_API_KEY=... LIVEKIT_API_SECRET=... python example.py dev

The portrait is ``PORTRAIT``, or ``portrait.jpg``. With models for hearing, thinking and speaking
give them to ``AgentSession`` as usual; the avatar takes whatever voice the session has.
"""

from __future__ import annotations

import asyncio
import io
import os
import wave
from collections.abc import AsyncIterator

from livekit import rtc
from livekit.agents import Agent, AgentSession, JobContext, WorkerOptions, cli
from livekit.plugins.moda import AvatarSession, Face

GREETING = "Good morning. My face is a photograph, and everything you see is made while I speak."


async def espeak(text: str) -> AsyncIterator[rtc.AudioFrame]:
    """The text in the voice of espeak-ng."""
    process = await asyncio.create_subprocess_exec(
        "espeak-ng", "-v", "en-us", "--stdout", "--", text, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    with wave.open(io.BytesIO(output)) as file:
        rate = file.getframerate()
    pcm, size = output[output.index(b"data") + 8 :], rate // 50 * 2
    for start in range(0, len(pcm) - size, size):
        yield rtc.AudioFrame(pcm[start : start + size], rate, 1, size // 2)


async def entrypoint(ctx: JobContext) -> None:
    """One room."""
    await ctx.connect()
    session = AgentSession()
    avatar = AvatarSession(Face(os.environ.get("PORTRAIT", "portrait.jpg")))
    await avatar.start(session, room=ctx.room)
    await session.start(agent=Agent(instructions="You are friendly."), room=ctx.room)
    session.say(GREETING, audio=espeak(GREETING))


if __name__ == "__main__":
    cli.run_app(WorkerOptions(entrypoint_fnc=entrypoint))
