"""A client that sends more than its session takes, of whatever kind."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from moda.serving.access import ANYBODY
from moda.serving.live.protocol import Start
from moda.serving.live.sessions import SocketSession
from moda.serving.metrics import Metrics
from moda.serving.settings import ServerSettings


@pytest.mark.parametrize(
    "message",
    [
        {"bytes": b"\0\0"},
        {"text": '{"type":"interrupt"}'},
        {"text": '{"type":"emotion","emotion":"happy"}'},
        {"text": '{"type":"text","text":"Hello!"}'},
    ],
    ids=["sound", "interruptions", "emotions", "texts"],
)
def test_is_closed_before_it_fills_the_memory(message: dict[str, Any]) -> None:
    sent: list[tuple[Any, ...]] = []

    class Worker:
        """Takes nothing; after 100 messages it is behind."""

        is_behind = property(lambda self: len(sent) > 100)

        def send(self, *words: Any) -> None:
            sent.append(words)

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.receive", **message}

    socket: Any = SimpleNamespace(state=SimpleNamespace(caller=ANYBODY), receive=receive)
    pool: Any = None
    session = SocketSession(socket, pool, ServerSettings(max_sessions=0), Metrics())
    session._worker = Worker()  # type: ignore[assignment]
    ending = asyncio.run(asyncio.wait_for(session._listen(Start()), 20))
    assert (ending.code, ending.reason) == (1008, "more comes than can be taken")
    assert len(sent) == 101
