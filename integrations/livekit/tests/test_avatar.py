"""The avatar with the real AgentSession, runner and synchroniser, in rooms without a server."""

from __future__ import annotations

import asyncio
import runpy
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from livekit import rtc
from livekit.agents import Agent, AgentSession
from livekit.agents.types import ATTRIBUTE_PUBLISH_ON_BEHALF
from livekit.plugins.moda import AvatarSession, Face
from livekit.plugins.moda.worker import AvatarWorker
from rooms import FakeRoom, Seen, read_claims

from conftest import EXAMPLES, Speech
from moda import InputError, ModaError


async def spoken_for(seen: Seen) -> float:
    return sum(duration for _, _, duration in seen.sound)


async def test_what_is_said_is_heard_whole_and_ends_its_segment(face: Face, speech: Speech) -> None:
    room = FakeRoom({}, "agent").join()
    avatar, session = AvatarSession(face), AgentSession()
    await avatar.start(session, room)
    assert avatar.avatar_identity == "agent"
    assert avatar._runner is not None
    seen = Seen().watch(avatar._runner)
    await avatar.wait_for_join()
    await session.start(agent=Agent(instructions="x"))
    idle = len(seen.pictures)
    await asyncio.sleep(0.5)
    handle = session.say("hello", audio=speech(1.2))
    await handle.wait_for_playout()
    assert not handle.interrupted
    assert await spoken_for(seen) == pytest.approx(1.2, abs=0.2)
    assert len(seen.pictures) > idle
    assert seen.pictures[0][0] < seen.sound[0][0]
    await session.aclose()
    await avatar.aclose()
    assert room.isconnected(), "the agent stays in its room"


async def test_an_interruption_ends_the_sound_at_once(face: Face, speech: Speech) -> None:
    room = FakeRoom({}, "agent").join()
    avatar, session = AvatarSession(face), AgentSession()
    await avatar.start(session, room)
    assert avatar._runner is not None
    seen = Seen().watch(avatar._runner)
    await session.start(agent=Agent(instructions="x"))
    handle = session.say("a long story", audio=speech(10.0))
    while await spoken_for(seen) < 0.5:
        await asyncio.sleep(0.02)
    await session.interrupt()
    at = time.monotonic()
    await handle.wait_for_playout()
    assert handle.interrupted
    await asyncio.sleep(1.0)
    heard_at, _, duration = seen.sound[-1]
    assert heard_at + duration - at < 0.15
    pictures = [shown for shown, _ in seen.pictures if shown > at]
    assert pictures, "the face goes on"
    second = session.say("yes?", audio=speech(0.6))
    await second.wait_for_playout()
    assert not second.interrupted
    after = sum(duration for heard, _, duration in seen.sound if heard > at + 0.5)
    assert after == pytest.approx(0.6, abs=0.2)
    await session.aclose()
    await avatar.aclose()


async def test_a_worker_of_its_own(face: Face, speech: Speech) -> None:
    network: dict[str, FakeRoom] = {}
    room = FakeRoom(network, "agent").join()
    worker_room = FakeRoom(network, "moda-avatar")
    worker = AvatarWorker(face, "wss://nowhere.invalid", make_room=lambda: worker_room)  # type: ignore[arg-type,return-value]
    await worker.load()
    async with TestServer(worker.application()) as server:
        url = str(server.make_url("")).rstrip("/")
        avatar = AvatarSession(worker_url=url, api_key="key", api_secret="s" * 32)
        session = AgentSession()
        await avatar.start(session, room)
        await avatar.wait_for_join()
        claims = read_claims(worker_room.token)
        assert claims["kind"] == "agent"
        assert claims["attributes"] == {ATTRIBUTE_PUBLISH_ON_BEHALF: "agent"}
        assert claims["video"]["room"] == "room"
        assert avatar.avatar_identity == "moda-avatar"
        assert "s" * 32 not in worker_room.token
        await session.start(agent=Agent(instructions="x"))
        handle = session.say("hello", audio=speech(0.8))
        await handle.wait_for_playout()
        assert not handle.interrupted
        handle = session.say("a long story", audio=speech(10.0))
        await asyncio.sleep(2.0)
        at = time.monotonic()
        await session.interrupt()
        await handle.wait_for_playout()
        assert handle.interrupted
        assert time.monotonic() - at < 1.0
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{url}/sessions", json={"token": "t", "agent": "other"}) as answer,
        ):
            assert answer.status == 503
        await session.aclose()
        await avatar.aclose()
        await room.disconnect()
        while worker_room.isconnected():
            await asyncio.sleep(0.05)


async def test_what_cannot_be_had_is_said(face: Face, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one of both"):
        AvatarSession()
    with pytest.raises(InputError, match="happier"):
        Face(EXAMPLES / "portrait.jpg", emotion="happier")
    room = FakeRoom({}, "agent").join()
    with pytest.raises(ModaError, match="missing"):
        await AvatarSession(Face(tmp_path / "missing.jpg")).start(AgentSession(), room)
    gone = AvatarSession(worker_url="http://127.0.0.1:9", api_key="key", api_secret="s" * 32)
    with pytest.raises(ModaError, match="cannot be reached"):
        await gone.start(AgentSession(), room)
    worker = AvatarWorker(face, "wss://nowhere.invalid")
    async with (
        TestServer(worker.application()) as server,
        aiohttp.ClientSession() as http,
        http.post(server.make_url("/sessions"), data=b"[]") as answer,
    ):
        assert answer.status == 400


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs espeak-ng")
async def test_the_example(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    example = runpy.run_path(str(Path(__file__).parents[1] / "example.py"))
    monkeypatch.setenv("PORTRAIT", str(EXAMPLES / "portrait.jpg"))
    room = FakeRoom({}, "agent")
    said: list[AsyncIterator[rtc.AudioFrame]] = []

    class Session(AgentSession):
        """Of a room without a server only the voice is there."""

        async def start(self, agent: Agent, room: object) -> None:
            await super().start(agent)

        def say(self, text: str, *, audio: AsyncIterator[rtc.AudioFrame]) -> None:
            said.append(audio)

    async def connect() -> None:
        room.join()

    monkeypatch.setitem(example["entrypoint"].__globals__, "AgentSession", Session)
    await example["entrypoint"](SimpleNamespace(room=room, connect=connect))
    assert sum([frame.duration async for frame in said[0]]) > 3.0
    async with asyncio.timeout(30.0):
        while len(room.local_participant.track_publications) < 2:
            await asyncio.sleep(0.05)
