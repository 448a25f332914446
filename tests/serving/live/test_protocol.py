"""Messages of a live session."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from moda.media.waves import write_pcm
from moda.serving.live.protocol import (
    End,
    Express,
    Interrupt,
    PackedFrame,
    ProtocolError,
    Start,
    pack_frame,
    read_control,
    read_sound,
    unpack_frame,
    without_picture,
)


@pytest.mark.parametrize(
    ("text", "control"),
    [
        ('{"type":"start"}', Start()),
        (
            '{"type":"start","portrait":"a","sample_rate":16000,"pace":"ahead","seed":7,'
            '"emotion":"sad","intensity":0.5}',
            Start("a", 16_000, "ahead", "sad", 0.5, 7),
        ),
        ('{"type":"interrupt"}', Interrupt()),
        ('{"type":"end"}', End()),
        ('{"type":"emotion","emotion":null}', Express(None, 1.0)),
        ('{"type":"emotion","emotion":"happy","intensity":1}', Express("happy", 1.0)),
    ],
)
def test_messages_are_understood(text: str, control: object) -> None:
    assert read_control(text) == control


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "[]", "1", "{}", '{"type":1}', '{"type":"stop"}', '{"type":"end","now":true}',
        '{"type":"start","portrait":1}', '{"type":"start","sample_rate":8000}',
        '{"type":"start","sample_rate":16000.0}', '{"type":"start","pace":"fast"}',
        '{"type":"start","seed":-1}', '{"type":"start","seed":true}', '{"type":"start","seed":1e3}',
        '{"type":"emotion","emotion":"furious"}', '{"type":"emotion","intensity":2}',
        '{"type":"emotion","intensity":NaN}', '{"type":"emotion","intensity":"1"}',
        '{"type":"emotion","emotion":[]}', '{"type":"end"' + " " * 5000 + "}", "[" * 3000,
    ],
)  # fmt: skip
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        read_control(text)


def test_random_messages_are_refused_and_nothing_worse() -> None:
    rng = random.Random(0)
    good = json.dumps({"type": "start", "sample_rate": 16000, "emotion": "sad", "seed": 3})
    for _ in range(2000):
        letters = list(good)
        for _ in range(rng.randrange(1, 4)):
            letters[rng.randrange(len(letters))] = chr(rng.choice([0, 34, 58, 92, 123, 0x1F600]))
        try:
            read_control("".join(letters))
        except ProtocolError:
            continue


def test_sound_goes_both_ways() -> None:
    samples = np.array([0.0, 0.5, -0.5, 1.0, -1.0, 2.0], np.float32)
    there = read_sound(write_pcm(samples))
    np.testing.assert_allclose(there, np.clip(samples, -1, 1), atol=1e-4)
    with pytest.raises(ProtocolError, match="odd"):
        read_sound(b"\0")
    with pytest.raises(ProtocolError, match="longer"):
        read_sound(b"\0" * 192_002)


def test_frames_are_packed_and_unpacked() -> None:
    frame = PackedFrame(7, True, b"picture", b"\1\2\3\4")
    message = pack_frame(frame)
    assert message[:4] == b"MODA"
    assert unpack_frame(message) == frame
    assert unpack_frame(without_picture(message)) == frame._replace(jpeg=b"")
    for broken in (b"", message[:-1], message + b"x", b"X" + message[1:]):
        with pytest.raises(ProtocolError):
            unpack_frame(broken)
