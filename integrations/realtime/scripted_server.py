"""A server of the OpenAI Realtime protocol that knows its answers by heart, for trials offline.

It hears by loudness alone: when somebody speaks it stops its answer, and when they pause it gives
the next one, faster than it is spoken, as real servers do.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from websockets.asyncio.server import ServerConnection, serve

RATE_HZ = 24_000
LOUD = 0.02
PAUSE_SECONDS = 0.5
DELTA_SECONDS = 0.2
SPEED = 4.0
"""An answer is sent so many times as fast as it is spoken."""


class ScriptedServer:
    """Gives one answer after the other, over and over.

    Args:
        answers: 16-bit PCM at 24 kHz.
    """

    def __init__(self, answers: Sequence[bytes]) -> None:
        self._answers = answers
        self._num_answers = 0
        self._answering: asyncio.Task[None] | None = None
        self._is_hearing, self._quiet_seconds = False, 0.0
        self.received: list[dict[str, Any]] = []
        """All that the client sent but its sound."""
        self.heard_seconds = 0.0

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """The address of the server, which ends with the context."""
        async with serve(self._attend, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            yield f"ws://127.0.0.1:{port}/v1/realtime"

    async def _attend(self, socket: ServerConnection) -> None:
        await self._tell(socket, "session.created", session={"type": "realtime"})
        async for message in socket:
            event = json.loads(message)
            if event["type"] == "input_audio_buffer.append":
                await self._hear(socket, b64decode(event["audio"]))
                continue
            self.received.append(event)
            if event["type"] == "session.update":
                await self._tell(socket, "session.updated", session=event["session"])
            elif event["type"] == "response.create":
                self._begin_answer(socket)
            elif event["type"] == "response.cancel":
                self._stop_answer()

    async def _hear(self, socket: ServerConnection, pcm: bytes) -> None:
        samples = np.frombuffer(pcm, "<i2") / 32768.0
        self.heard_seconds += len(samples) / RATE_HZ
        if len(samples) and np.sqrt(np.mean(samples**2)) > LOUD:
            self._quiet_seconds = 0.0
            if not self._is_hearing:
                self._is_hearing = True
                self._stop_answer()
                at = int(1000 * self.heard_seconds)
                await self._tell(socket, "input_audio_buffer.speech_started", audio_start_ms=at)
        elif self._is_hearing:
            self._quiet_seconds += len(samples) / RATE_HZ
            if self._quiet_seconds > PAUSE_SECONDS:
                self._is_hearing = False
                await self._tell(socket, "input_audio_buffer.speech_stopped")
                self._begin_answer(socket)

    def _begin_answer(self, socket: ServerConnection) -> None:
        self._stop_answer()
        self._answering = asyncio.create_task(self._answer(socket, self._num_answers))
        self._num_answers += 1

    def _stop_answer(self) -> None:
        if self._answering is not None:
            self._answering.cancel()
            self._answering = None

    async def _answer(self, socket: ServerConnection, number: int) -> None:
        response, item = f"resp_{number}", f"item_{number}"
        pcm = self._answers[number % len(self._answers)]
        place = {"response_id": response, "item_id": item, "output_index": 0, "content_index": 0}
        try:
            await self._tell(socket, "response.created", response={"id": response})
            size = int(DELTA_SECONDS * RATE_HZ) * 2
            for start in range(0, len(pcm), size):
                delta = b64encode(pcm[start : start + size]).decode()
                await self._tell(socket, "response.output_audio.delta", delta=delta, **place)
                await asyncio.sleep(DELTA_SECONDS / SPEED)
            await self._tell(socket, "response.output_audio.done", **place)
            await self._tell(socket, "response.done", response={"id": response})
        except asyncio.CancelledError:
            cancelled = {"id": response, "status": "cancelled"}
            await self._tell(socket, "response.done", response=cancelled)

    async def _tell(self, socket: ServerConnection, kind: str, **values: Any) -> None:
        await socket.send(json.dumps({"type": kind, **values}))
