"""The server's application without a network, and with a maker of videos that tests choose."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import numpy as np
import pytest

from moda.serving.app import create_app
from moda.serving.settings import ServerSettings
from moda.serving.videos.queue import VideoJobs
from moda.serving.videos.records import Job
from moda.serving.videos.worker import RESULT_NAME
from paths import PORTRAIT

RATE = 16_000
Ask = Callable[..., Awaitable[httpx.Response]]
Make = Callable[[VideoJobs, Job], Awaitable[None]]


async def never(jobs: VideoJobs, job: Job) -> None:
    """A video that takes for ever."""
    await asyncio.sleep(600)


async def at_once(jobs: VideoJobs, job: Job) -> None:
    """A video of 90 s that takes no time."""
    (job.folder / RESULT_NAME).write_bytes(b"video")
    job.state, job.progress, job.seconds = "done", 1.0, 90.0


def serve(body: Callable[[Any, Ask], Awaitable[Any]], make: Make = never, **settings: Any) -> Any:
    """Run something against a server that starts before and ends after."""
    app = create_app(ServerSettings(max_sessions=0, **settings))

    async def run() -> Any:
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            return await body(app, client.request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VideoJobs, "_make", make)
        return asyncio.run(asyncio.wait_for(run(), 60))


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something is true."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def files(**changes: Any) -> dict[str, Any]:
    """A portrait and speech."""
    return {"portrait": PORTRAIT.read_bytes(), "speech": wav(1.0), **changes}


def wav(seconds: float) -> bytes:
    """A tone."""
    times = np.arange(round(seconds * RATE)) / RATE
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, RATE, 0, "NONE", ""))
        writer.writeframes((8000 * np.sin(2000 * times)).astype("<i2").tobytes())
    return file.getvalue()


def key(name: str) -> dict[str, str]:
    """Headers with an API key."""
    return {"authorization": f"Bearer {name}"}
