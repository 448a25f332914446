"""A face for a server of the OpenAI Realtime protocol, with a small one on loopback."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from moda.errors import ModaError
from moda.live import LiveFrame, LiveHead, LiveOptions, LiveStream
from moda.media import AudioReader
from moda.media.waves import write_pcm
from moda.options import FrameOptions
from moda.pipeline import TalkingHead
from moda.structures import Floats, Picture
from moda.systems.protocol import Actor
from paths import ROOT, SPEECH, load_file

pytest.importorskip("websockets")
from moda.live.realtime import RealtimeFace

RATE = 24_000
WAIT_SECONDS = 60.0


@pytest.fixture(scope="module")
def scripted() -> Any:
    return load_file(ROOT / "integrations" / "realtime" / "scripted_server.py")


@pytest.fixture(scope="module")
def talking() -> TalkingHead:
    return TalkingHead.from_pretrained("moda-tiny", device="cpu")


@pytest.fixture(scope="module")
def actor(talking: TalkingHead, photograph: Picture) -> Actor:
    return talking.system.prepare(photograph, FrameOptions(size=64))


@pytest.fixture
def stream(talking: TalkingHead, actor: Actor) -> LiveStream:
    options = LiveOptions(sample_rate=RATE, pace="ahead", max_queued_seconds=600.0)
    return LiveStream(LiveHead(talking.system, actor, options))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def speech() -> Floats:
    return np.concatenate(list(AudioReader(SPEECH, RATE)))


async def until(face: RealtimeFace, done: Callable[[LiveFrame], bool]) -> list[LiveFrame]:
    made = []
    async with asyncio.timeout(WAIT_SECONDS):
        async for frame in face:
            made.append(frame)
            if done(frame):
                break
    return made


def sound_of(made: list[LiveFrame]) -> Floats:
    return np.concatenate([frame.sound for frame in made])


def test_a_question_is_answered_with_picture_and_sound(
    scripted: Any, stream: LiveStream, speech: Floats
) -> None:
    answer = speech[RATE : 2 * RATE]
    server = scripted.ScriptedServer([write_pcm(answer)])

    async def talk() -> tuple[list[LiveFrame], list[str]]:
        kinds: list[str] = []
        async with server.serve() as url:
            hook = lambda event: kinds.append(event["type"])  # noqa: E731
            async with RealtimeFace(url, stream, api_key="secret", on_event=hook) as face:
                question = write_pcm(np.repeat(speech[:RATE:3], 2))  # 16 kHz, stereo
                for start in range(0, len(question), 3200):
                    await face.hear(question[start : start + 3200], 8_000, 2)
                await face.hear(bytes(4 * 8_000), 8_000, 2)
                return await until(face, lambda frame: "item_0" in frame.marks), kinds

    made, kinds = asyncio.run(talk())
    assert server.heard_seconds == pytest.approx(2.0, abs=0.05)
    assert server.received[0]["session"]["audio"]["output"]["format"]["rate"] == RATE
    begin = kinds.index("input_audio_buffer.speech_started")
    assert begin < kinds.index("response.created") < kinds.index("response.output_audio.delta")
    heard = sound_of([frame for frame in made if frame.is_sounding])
    place = np.flatnonzero(np.abs(heard) > 0.01)
    expected = np.flatnonzero(np.abs(answer) > 0.01)
    assert place[-1] - place[0] == pytest.approx(expected[-1] - expected[0], abs=RATE * 0.1)
    assert any(frame.picture is not None for frame in made)


def test_barge_in_ends_the_answer_and_the_server_learns_how_much_was_heard(
    scripted: Any, stream: LiveStream, speech: Floats
) -> None:
    server = scripted.ScriptedServer([write_pcm(speech), write_pcm(speech[RATE : RATE * 3 // 2])])

    async def talk() -> tuple[list[LiveFrame], list[LiveFrame]]:
        async with server.serve() as url, RealtimeFace(url, stream) as face:
            await face.ask("Tell me a story.")
            before = await until(face, lambda frame: frame.heard_seconds > 0.6)
            await face.hear(write_pcm(speech[RATE : RATE * 3 // 2]), RATE)
            await until(face, lambda frame: not frame.is_sounding)
            await face.hear(bytes(2 * RATE), RATE)
            return before, await until(face, lambda frame: "item_1" in frame.marks)

    before, after = asyncio.run(talk())
    (truncation,) = [
        event for event in server.received if event["type"] == "conversation.item.truncate"
    ]
    assert truncation["item_id"] == "item_0"
    assert 550 < truncation["audio_end_ms"] < 3_000
    heard = sum(len(frame.sound) for frame in after if frame.is_sounding) / RATE
    assert 0.4 < heard < 1.0, "nothing of the rest of the first answer, which is many seconds"
    assert not any("item_0" in frame.marks for frame in before + after)


def test_an_answer_that_was_heard_is_not_truncated_and_one_can_be_stopped_by_hand(
    scripted: Any, stream: LiveStream, speech: Floats
) -> None:
    server = scripted.ScriptedServer([write_pcm(speech[RATE : RATE * 3 // 2])])

    async def talk() -> None:
        async with server.serve() as url, RealtimeFace(url, stream) as face:
            await face.ask("Hello.")
            await until(face, lambda frame: "item_0" in frame.marks)
            await face.hear(write_pcm(speech[RATE : 2 * RATE]), RATE)
            await face.interrupt()
            assert not any("truncate" in event["type"] for event in server.received)
            await face.ask("And again.")
            await until(face, lambda frame: frame.is_sounding)
            await face.interrupt()
            await until(face, lambda frame: not frame.is_sounding)

    asyncio.run(talk())
    assert sum("truncate" in event["type"] for event in server.received) == 1


def test_a_server_that_is_not_there_or_goes_is_said(
    scripted: Any, talking: TalkingHead, actor: Actor, stream: LiveStream
) -> None:
    server = scripted.ScriptedServer([b""])

    async def nobody() -> None:
        with pytest.raises(ModaError, match=r"127\.0\.0\.1:9/v1/realtime cannot be reached"):
            async with RealtimeFace("ws://127.0.0.1:9/v1/realtime?key=secret", stream):
                pass

    async def gone() -> int:
        async with server.serve() as url:
            face = await RealtimeFace(url, stream).__aenter__()
            await until(face, lambda frame: frame.number == 1)
        count = len(await until(face, lambda frame: False))
        with pytest.raises(ModaError, match="has gone"):
            await face.ask("Are you there?")
        await face.__aexit__()
        return count

    asyncio.run(nobody())
    assert asyncio.run(gone()) < 100


def test_without_websockets_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "moda.live.realtime")
    monkeypatch.setitem(sys.modules, "websockets.asyncio.client", None)
    with pytest.raises(ModaError, match="pip install websockets"):
        __import__("moda.live.realtime")
