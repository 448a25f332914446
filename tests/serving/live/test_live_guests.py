"""A real server: a portrait that the client brings, and a text that the server speaks."""

from __future__ import annotations

import asyncio
import json
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from live_server import KEY, RunningServer, wait_until
from PIL import Image
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from moda.serving.live.portraits import PATH
from moda.serving.live.protocol import PackedFrame, unpack_frame
from moda.speech_synthesis import espeak_is_installed
from paths import PORTRAIT

RATE = 16_000


def converse(
    server: RunningServer, *said: dict[str, Any] | bytes, **start: Any
) -> tuple[list, list, str]:
    """Frames, events and the reason of the end of a session."""

    async def run() -> tuple[list[PackedFrame], list[dict[str, Any]], str]:
        address = server.address.replace("http", "ws") + "/v1/live"
        names = [Subprotocol("moda.v1"), Subprotocol(f"moda.key.{KEY}")]
        frames, events = [], []
        async with connect(address, subprotocols=names, max_size=2**24) as socket:
            await socket.send(json.dumps({"type": "start", "sample_rate": RATE, **start}))
            try:
                while True:
                    message = await socket.recv()
                    if isinstance(message, bytes):
                        frames.append(unpack_frame(message))
                        continue
                    events.append(json.loads(message))
                    if events[-1]["type"] == "started":
                        for control in (*said, {"type": "end"}):
                            is_sound = isinstance(control, bytes)
                            await socket.send(control if is_sound else json.dumps(control))
            except ConnectionClosed as closed:
                return frames, events, closed.rcvd.reason if closed.rcvd else ""

    found = asyncio.run(asyncio.wait_for(run(), 240))
    assert wait_until(lambda: server.request("GET", "/v1/info").json()["free_sessions"] == 1)
    return found


@pytest.mark.skipif(not espeak_is_installed(), reason="espeak-ng is not installed")
@pytest.mark.parametrize("pace", ["realtime", "ahead"])
def test_a_text_is_heard_whole(server: RunningServer, pace: str) -> None:
    text = {"type": "text", "text": "[happy] Hello, my friends.", "language": "en-us"}
    frames, events, _ = converse(server, text, text, pace=pace)
    sound = np.frombuffer(b"".join(frame.sound for frame in frames), "<i2").astype(float)
    loud = (np.abs(sound) > 300).nonzero()[0]
    assert 2.0 < (loud[-1] - loud[0]) / RATE < 8.0
    kinds = [event["type"] for event in events]
    assert kinds.count("speaking") >= 1
    assert kinds[-1] == "ended"
    assert "error" not in kinds
    skipped = [event["skipped_seconds"] for event in events if event["type"] == "status"]
    assert max(skipped, default=0.0) == 0.0, "nothing waits so long that it is left out"
    pictures = {frame.jpeg for frame in frames if frame.is_speaking and frame.jpeg}
    undrawn = max(event["undrawn_frames"] for event in events if event["type"] == "status")
    assert len(pictures) > 5 or undrawn > 0.5 * len(frames), "the face moves unless it is late"


def test_sound_without_speech_is_said(server: RunningServer) -> None:
    for said, told in ((), []), ((bytes(2 * RATE),), ["no speech was found"]):
        _, events, _ = converse(server, *said, pace="ahead")
        notes = [event["message"][:19] for event in events if event["type"] == "note"]
        assert notes == told
        assert events[-1]["type"] == "ended"


@pytest.mark.skipif(not espeak_is_installed(), reason="espeak-ng is not installed")
def test_a_text_that_cannot_be_said_is_told(server: RunningServer) -> None:
    _, events, _ = converse(server, {"type": "text", "text": "Hi", "language": "xx"})
    (error,) = [event for event in events if event["type"] == "error"]
    assert "xx" in error["message"]


def test_a_portrait_of_the_clients_own_is_shown(server: RunningServer) -> None:
    picture = Image.open(PORTRAIT).convert("RGB")
    mirrored = BytesIO()
    picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mirrored, "PNG")
    answer = server.request("POST", PATH, files={"portrait": mirrored.getvalue()})
    assert answer.status_code == 201
    name = answer.json()["portrait"]
    shown = {}
    for portrait in (None, name):
        frames, events, _ = converse(server, portrait=portrait)
        assert events[0]["type"] in ("waiting", "started")
        jpeg = next(frame.jpeg for frame in frames if frame.jpeg)
        shown[portrait] = np.asarray(Image.open(BytesIO(jpeg)).convert("L")).astype(float)
    own, guest = shown[None], shown[name]
    assert np.abs(own[:, ::-1] - guest).mean() < np.abs(own - guest).mean() / 2
    assert server.request("DELETE", f"{PATH}/{name}").status_code == 204
    _, events, reason = converse(server, portrait=name)
    assert "there is no portrait" in reason
    assert events == []
    assert server.leftovers() == []


def test_one_without_a_face_is_told_without_paths(server: RunningServer) -> None:
    grey = BytesIO()
    Image.new("RGB", (200, 200), (90, 90, 90)).save(grey, "PNG")
    name = server.request("POST", PATH, files={"portrait": grey.getvalue()}).json()["portrait"]
    _, _, reason = converse(server, portrait=name)
    assert "face" in reason
    assert "/" not in reason
    assert server.request("DELETE", f"{PATH}/{name}").status_code == 204
