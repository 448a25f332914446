"""The stream for asyncio: any rate, marks, interruptions, ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from moda.errors import InputError
from moda.live import LiveFrame, LiveHead, LiveOptions, LiveStream
from moda.media.waves import write_pcm
from moda.options import FrameOptions
from moda.pipeline import TalkingHead
from moda.structures import Floats, Picture
from moda.systems.protocol import Actor

RATE = 24_000


@pytest.fixture(scope="module")
def talking() -> TalkingHead:
    return TalkingHead.from_pretrained("moda-tiny", device="cpu")


@pytest.fixture(scope="module")
def actor(talking: TalkingHead, photograph: Picture) -> Actor:
    return talking.system.prepare(photograph, FrameOptions(size=64))


@pytest.fixture
def stream(talking: TalkingHead, actor: Actor) -> LiveStream:
    options = LiveOptions(sample_rate=RATE, pace="ahead", max_queued_seconds=2.0)
    return LiveStream(LiveHead(talking.system, actor, options))  # type: ignore[arg-type]


def tone(seconds: float, rate: int) -> Floats:
    times = np.arange(int(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * 440.0 * times)).astype(np.float32)


async def until(stream: LiveStream, done: Callable[[LiveFrame], bool]) -> list[LiveFrame]:
    """The frames up to the first of which ``done`` says so."""
    made = []
    async for frame in stream:
        made.append(frame)
        if done(frame):
            break
    return made


def sound_of(made: list[LiveFrame]) -> Floats:
    return np.concatenate([frame.sound for frame in made])


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (44_100, 2), (RATE, 1)])
def test_sound_of_any_rate_comes_out_whole_before_its_mark(
    stream: LiveStream, rate: int, channels: int
) -> None:
    async def speak() -> list[LiveFrame]:
        async with stream:
            pcm = write_pcm(np.repeat(tone(0.4, rate), channels))
            for start in range(0, len(pcm), 400 * channels):
                stream.push_pcm(pcm[start : start + 400 * channels], rate, channels)
            stream.mark("end")
            return await until(stream, lambda frame: "end" in frame.marks)

    made = asyncio.run(speak())
    loud = np.flatnonzero(np.abs(sound_of(made)) > 0.1)
    assert (loud[-1] - loud[0]) / RATE == pytest.approx(0.4, abs=0.01)
    piece = sound_of(made)[loud[0] :][: RATE // 4]
    assert np.argmax(np.abs(np.fft.rfft(piece))) * 4 == pytest.approx(440.0, abs=4.0)
    assert made[-1].heard_seconds == pytest.approx(0.4, abs=0.002)
    assert len(sound_of(made)) / RATE - loud[-1] / RATE < 0.08, "the mark comes without delay"
    assert made[-1].is_sounding


def test_marks_come_in_order_and_an_interruption_drops_them_with_the_sound(
    stream: LiveStream,
) -> None:
    async def speak() -> tuple[list[LiveFrame], list[LiveFrame]]:
        async with stream:
            stream.mark("begin")
            stream.push(tone(0.2, RATE), RATE)
            stream.mark("first")
            stream.push(tone(1.5, RATE), RATE)
            stream.mark("never")
            before = await until(stream, lambda frame: "first" in frame.marks)
            stream.interrupt()
            stream.mark("after")
            after = await until(stream, lambda frame: "after" in frame.marks)
            stream.push(tone(0.2, RATE), RATE)
            stream.mark("again")
            return before, after + await until(stream, lambda frame: "again" in frame.marks)

    before, after = asyncio.run(speak())
    assert [mark for frame in before for mark in frame.marks] == ["begin", "first"]
    assert [mark for frame in after for mark in frame.marks] == ["after", "again"]
    faded = np.count_nonzero(sound_of([frame for frame in after if not frame.is_sounding]))
    assert faded <= 0.005 * RATE, "nothing of before but its fade"
    loud = np.flatnonzero(np.abs(sound_of([f for f in after if f.is_sounding])) > 0.01)
    assert (loud[-1] - loud[0]) / RATE == pytest.approx(0.2, abs=0.01)
    assert after[-1].heard_seconds == pytest.approx(1.9, abs=1e-6)


def test_what_is_not_taken_is_said(stream: LiveStream) -> None:
    async def speak() -> str | None:
        async with stream:
            with pytest.raises(InputError, match="3000 Hz"):
                stream.push(tone(0.1, 3_000), 3_000)
            with pytest.raises(InputError, match="3 bytes"):
                stream.push_pcm(b"abc", RATE)
            stream.push(tone(2.5, RATE), RATE)
            await until(stream, lambda frame: frame.number == 1)
            return stream.take_rejected()

    rejected = asyncio.run(speak())
    assert rejected is not None
    assert "more than 2 s" in rejected
    assert stream.take_rejected() is None


def test_closing_ends_the_iteration(stream: LiveStream) -> None:
    async def close_early() -> None:
        stream.start()
        await anext(stream)
        await stream.close()
        assert len([frame async for frame in stream]) < 5

    asyncio.run(close_early())


def test_a_fault_of_the_thread_reaches_the_program(
    stream: LiveStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: LiveHead, *, draw: bool = True) -> LiveFrame:
        raise RuntimeError("broken")

    async def speak() -> None:
        monkeypatch.setattr(LiveHead, "next_frame", fail)
        async with stream:
            with pytest.raises(RuntimeError, match="broken"):
                await anext(stream)

    asyncio.run(speak())
