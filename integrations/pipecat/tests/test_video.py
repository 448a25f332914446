"""The video service in real pipelines of pipecat-ai, with the real model at a small size."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pipecat.frames.frames import (
    ErrorFrame,
    Frame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    OutputImageRawFrame,
    TextFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.tests.utils import SleepFrame, run_test
from pipecat_moda import MoDAVideoService

from conftest import EXAMPLES

Speech = tuple[bytes, int]


def service(**options: Any) -> MoDAVideoService:
    return MoDAVideoService(**{"portrait": EXAMPLES / "portrait.jpg", "size": 128, **options})


def run(processor: MoDAVideoService, frames: Sequence[Frame]) -> tuple[list[Frame], list[Frame]]:
    down, up = asyncio.run(run_test(processor, frames_to_send=frames, start_timeout=120.0))
    return list(down), list(up)


def spoken(speech: Speech, context: str = "a", rate: int | None = None) -> list[Frame]:
    """An utterance as a speech synthesiser sends it: at once, in pieces of 20 ms."""
    pcm, own_rate = speech
    rate = rate or own_rate
    size = rate // 50 * 2
    pieces = [pcm[start : start + size] for start in range(0, len(pcm), size)]
    return [
        TTSStartedFrame(context_id=context),
        *(TTSAudioRawFrame(piece, rate, 1, context_id=context) for piece in pieces),
        TTSStoppedFrame(context_id=context),
    ]


def sound_of(frames: Sequence[Frame]) -> np.ndarray:
    """What was heard, in -1..1."""
    pcm = b"".join(one.audio for one in frames if isinstance(one, TTSAudioRawFrame))
    return np.frombuffer(pcm, "<i2") / 32768.0


def places(frames: Sequence[Frame], kind: type[Frame]) -> list[int]:
    return [place for place, frame in enumerate(frames) if isinstance(frame, kind)]


def test_speech_comes_out_whole_each_piece_behind_its_picture(speech: Speech) -> None:
    down, up = run(service(), [TextFrame("before"), *spoken(speech), LLMFullResponseEndFrame()])
    assert not places(up, ErrorFrame)
    pieces, pictures = places(down, TTSAudioRawFrame), places(down, OutputImageRawFrame)
    assert {len(down[place].audio) for place in pieces} == {24_000 // 25 * 2}
    assert {down[place].context_id for place in pieces} == {"a"}
    assert all(down[place].sync_with_audio for place in pictures)
    assert {down[place].size for place in pictures} == {(128, 128)}
    assert {len(down[place].image) for place in pictures} == {128 * 128 * 3}
    between = [sum(a < one < b for one in pictures) for a, b in itertools.pairwise(pieces)]
    assert max(between) == 1, "of a late machine pictures are left out, never doubled"
    assert len({down[place].image for place in pictures}) > 3, "the face moves"
    pcm, rate = speech
    samples = np.frombuffer(pcm, "<i2") / 32768.0
    heard = sound_of(down)
    assert len(heard) / 24_000 == pytest.approx(len(samples) / rate, abs=0.2)
    assert np.sqrt(np.mean(heard**2) * len(heard) / 24_000) == pytest.approx(
        np.sqrt(np.mean(samples**2) * len(samples) / rate), rel=0.02
    )
    (started,), (stopped,) = places(down, TTSStartedFrame), places(down, TTSStoppedFrame)
    (response_end,) = places(down, LLMFullResponseEndFrame)
    assert places(down, TextFrame)[0] < started < pieces[0]
    assert pieces[-1] < stopped < response_end, "what follows speech stays behind it"


def test_an_interruption_ends_sound_at_once_and_drops_what_was_not_said(speech: Speech) -> None:
    long = (speech[0] * 10, speech[1])
    sent = [
        *spoken(long), TextFrame("never said"), SleepFrame(3.0), InterruptionFrame(),
        SleepFrame(1.0), *spoken(speech, "b"),
    ]  # fmt: skip
    down, _ = run(service(), sent)
    (interruption,) = places(down, InterruptionFrame)
    pieces = places(down, TTSAudioRawFrame)
    before = [place for place in pieces if place < interruption]
    after = [place for place in pieces if place > interruption]
    assert before
    assert len(before) * 0.04 < 5.0
    assert not places(down, TextFrame)
    assert {down[place].context_id for place in after} == {"b"}
    assert len(after) * 0.04 == pytest.approx(1.2, abs=0.2)
    assert len(places(down, TTSStoppedFrame)) == 1, "the one of what was said to its end"
    idle = [place for place in places(down, OutputImageRawFrame) if interruption < place < after[0]]
    assert idle, "the face goes on"


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (22_050, 1), (44_100, 2)])
def test_any_sample_rate(speech: Speech, rate: int, channels: int) -> None:
    seconds = 0.6
    tone = 0.3 * np.sin(2 * np.pi * 440.0 * np.arange(int(seconds * rate)) / rate)
    pcm = np.repeat((tone * 32767).astype("<i2"), channels).tobytes()
    sent = [TTSAudioRawFrame(pcm, rate, channels, context_id="a"), TTSStoppedFrame(context_id="a")]
    heard = sound_of(run(service(), sent)[0])
    loud = np.flatnonzero(np.abs(heard) > 0.15)
    assert (loud[-1] - loud[0]) / 24_000 == pytest.approx(seconds, abs=0.02)
    middle = heard[loud[0] : loud[0] + 12_000]
    assert np.argmax(np.abs(np.fft.rfft(middle))) * 2 == pytest.approx(440.0, abs=4.0)


def test_speech_that_must_not_be_interrupted_is_said_to_its_end(speech: Speech) -> None:
    frames = spoken(speech)
    for frame in frames:
        frame.interruptible = False
    down, _ = run(service(), [*frames, SleepFrame(0.5), InterruptionFrame()])
    pieces = places(down, TTSAudioRawFrame)
    assert len(pieces) * 0.04 == pytest.approx(1.2, abs=0.2)
    assert not any(down[place].interruptible for place in pieces)
    assert places(down, TTSStoppedFrame)[0] > pieces[-1]


def test_nobody_speaks_and_the_face_is_there(speech: Speech) -> None:
    down, _ = run(service(), [SleepFrame(2.0)])
    assert places(down, OutputImageRawFrame)
    assert not places(down, TTSAudioRawFrame)


def test_without_a_face_the_voice_goes_on(speech: Speech) -> None:
    down, up = run(service(portrait=np.zeros((64, 64, 3), np.uint8)), spoken(speech))
    (error,) = places(up, ErrorFrame)
    assert "no face" in up[error].error
    pcm, _ = speech
    assert b"".join(down[place].audio for place in places(down, TTSAudioRawFrame)) == pcm
