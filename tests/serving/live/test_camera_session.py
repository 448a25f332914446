"""A session that follows a camera: pictures in, pictures out, and what is wrong is told."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import cv2
import numpy as np
import pytest
from live_server import KEY, RunningServer, wait_until
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from moda.live import LiveReenactment
from moda.media import jpeg_bytes, read_image
from moda.options import FrameOptions
from moda.pipeline import TalkingHead
from moda.serving.live.camera import CameraSession
from moda.serving.live.output import PipeOutput
from moda.serving.live.protocol import (
    MAX_CAMERA_BYTES,
    End,
    Interrupt,
    ProtocolError,
    Start,
    check_binary,
    read_camera,
    read_control,
    unpack_frame,
)
from moda.structures import Picture
from paths import PORTRAIT

GREY = np.full((240, 320, 3), 90, np.uint8)


class Heard:
    """Takes what a session sends to the server."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.events: list[dict[str, Any]] = []

    def send(self, word: str, value: Any) -> None:
        (self.frames if word == "frame" else self.events).append(value)


@pytest.fixture(scope="module")
def live(photograph: Picture) -> LiveReenactment:
    head = TalkingHead.from_pretrained("moda-tiny", device="cpu")
    return LiveReenactment.of(head, photograph, frame=FrameOptions(size=128))


def test_pictures_are_answered_and_the_rest_is_told(live: LiveReenactment) -> None:
    heard, ended = Heard(), []
    output = PipeOutput(heard, 80, "jpeg")  # type: ignore[arg-type]
    session = CameraSession(live, output, lambda: ended.append(True))
    try:
        session.push(jpeg_bytes(GREY, 80))
        assert wait_until(lambda: len(heard.frames) == 1)
        session.push(b"this is no picture")
        assert wait_until(lambda: any(event["type"] == "error" for event in heard.events))
        session.push(jpeg_bytes(GREY, 80))
        assert wait_until(lambda: len(heard.frames) == 2)
        session.control(Interrupt())
        session.control(End())
    finally:
        session.close()
    frame = unpack_frame(heard.frames[0])
    picture = cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape[1::-1] == live.frame_size
    assert frame.sound == b""
    face, damaged, other = heard.events
    assert (face["type"], face["state"]) == ("face", "absent")
    assert "JPEG or PNG" in damaged["message"]
    assert "pictures and end" in other["message"]
    assert ended == [True]


def test_what_may_be_sent_is_limited() -> None:
    start = read_control('{"type":"start","follow":true}')
    assert isinstance(start, Start)
    assert start.follow
    for text in ('{"type":"start","follow":1}', '{"type":"start","follow":true,"picture":"mouth"}'):
        with pytest.raises(ProtocolError):
            read_control(text)
    check_binary(b"\0" * 201_001, follow=True)
    for data, follow in ((b"\0" * (MAX_CAMERA_BYTES + 1), True), (b"\0", False)):
        with pytest.raises(ProtocolError):
            check_binary(data, follow=follow)
    large = np.zeros((2000, 2000, 3), np.uint8)
    with pytest.raises(ProtocolError, match="2000 x 2000"):
        read_camera(jpeg_bytes(large, 50))
    data = jpeg_bytes(GREY, 80)
    for damaged in (data[: len(data) // 2], b"", b"GIF89a" + data):
        with pytest.raises(ProtocolError):
            read_camera(damaged)


def test_a_server_follows_a_camera(server: RunningServer) -> None:
    data = jpeg_bytes(cv2.resize(read_image(PORTRAIT), (480, 480)), 80)

    async def run() -> tuple[list[bytes], list[dict[str, Any]]]:
        address = server.address.replace("http", "ws") + "/v1/live"
        names = [Subprotocol("moda.v1"), Subprotocol(f"moda.key.{KEY}")]
        frames, events = [], []
        async with connect(address, subprotocols=names, max_size=2**24) as socket:
            await socket.send(json.dumps({"type": "start", "follow": True}))
            async for message in socket:
                if isinstance(message, bytes):
                    frames.append(message)
                else:
                    events.append(json.loads(message))
                    if events[-1]["type"] != "started":
                        continue
                is_enough = len(frames) == 3
                await socket.send(json.dumps({"type": "end"}) if is_enough else data)
        return frames, events

    frames, events = asyncio.run(asyncio.wait_for(run(), 240))
    assert len({unpack_frame(frame).number for frame in frames}) == 3
    kinds = [event["type"] for event in events if event["type"] != "waiting"]
    assert kinds[0] == "started"
    assert kinds[-1] == "ended"
    assert next(event for event in events if event["type"] == "face")["state"] == "learning"
