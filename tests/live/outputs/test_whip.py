"""A live head sends to a WHIP endpoint, which is another aiortc on loopback."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from live_frames import RATE_HZ, TONE_HZ, bright, live_frames
from moda.errors import InputError, OutputError

aiortc = pytest.importorskip("aiortc", reason="the extra webrtc is not installed")
from moda.live.outputs.whip import WhipOutput  # noqa: E402

SIZE = (64, 48)
TOKEN = "let-me-in"


class Endpoint:
    """An HTTP server that answers one offer and decodes what comes."""

    def __init__(self) -> None:
        self.levels: list[float] = []
        self.sound: list[np.ndarray] = []
        self.asked: list[tuple[str, str, str | None]] = []
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                endpoint.asked.append(("POST", self.path, self.headers.get("Content-Type")))
                offer = self.rfile.read(int(self.headers["Content-Length"])).decode()
                if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    self.send_error(401)
                    return
                work = asyncio.run_coroutine_threadsafe(endpoint.answer(offer), endpoint._loop)
                answer = work.result(30).encode()
                self.send_response(201)
                self.send_header("Location", "/whip/resource/7")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def do_DELETE(self) -> None:
                endpoint.asked.append(("DELETE", self.path, None))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *values: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}/whip/endpoint"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    async def answer(self, offer: str) -> str:
        self.peer = peer = aiortc.RTCPeerConnection()
        self.tasks: list[asyncio.Task[None]] = []

        @peer.on("track")
        def came(track: Any) -> None:
            self.tasks.append(asyncio.ensure_future(self.watch(track)))

        await peer.setRemoteDescription(aiortc.RTCSessionDescription(offer, "offer"))
        await peer.setLocalDescription(await peer.createAnswer())
        return str(peer.localDescription.sdp)

    async def watch(self, track: Any) -> None:
        while True:
            try:
                frame = await track.recv()
            except aiortc.mediastreams.MediaStreamError:
                return
            if track.kind == "video":
                self.levels.append(float(frame.to_ndarray(format="gray").mean()))
            else:
                self.sound.append(frame.to_ndarray()[0, ::2] / 32768.0)  # stereo, in turns

    def close(self) -> None:
        async def hang_up() -> None:
            if hasattr(self, "peer"):
                await self.peer.close()

        asyncio.run_coroutine_threadsafe(hang_up(), self._loop).result(10)
        self.server.shutdown()
        self.server.server_close()
        self._loop.call_soon_threadsafe(self._loop.stop)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    yield endpoint
    endpoint.close()


def test_what_arrives_is_what_was_shown(endpoint: Endpoint) -> None:
    frames = list(live_frames(75, SIZE))
    output = WhipOutput(endpoint.address, TOKEN)
    assert output.is_connected.wait(30)
    start = time.monotonic()
    for frame in frames:
        time.sleep(max(0.0, start + frame.number / 25 - time.monotonic()))
        output.show(frame)
    time.sleep(0.5)
    output.close()
    assert [(word, path) for word, path, _ in endpoint.asked] == [
        ("POST", "/whip/endpoint"), ("DELETE", "/whip/resource/7"),
    ]  # fmt: skip
    assert endpoint.asked[0][2] == "application/sdp"
    levels, shown = np.array(endpoint.levels), np.array(bright(frames))
    assert len(levels) >= 25
    assert np.abs(levels[:, None] - shown).min(1).max() < 6.0, "each was shown"
    sound = np.concatenate(endpoint.sound)[-RATE_HZ:]
    assert len(sound) == RATE_HZ
    assert np.abs(np.fft.rfft(sound)).argmax() == pytest.approx(TONE_HZ, abs=2)


def test_without_the_token(endpoint: Endpoint) -> None:
    with pytest.raises(OutputError, match=r"refuses the stream with HTTP 401"):
        WhipOutput(endpoint.address)


def test_other_rates_of_sound(endpoint: Endpoint) -> None:
    output = WhipOutput(endpoint.address, TOKEN)
    (frame,) = live_frames(1, SIZE)
    with pytest.raises(InputError, match="takes sound at 48000 Hz"):
        output.show(frame._replace(sound=frame.sound[::2]))
    output.close()


@pytest.mark.parametrize("address", ["rtmp://a/b", "file:///etc/passwd", "http://"])
def test_other_addresses(address: str) -> None:
    with pytest.raises(InputError, match="is no web address"):
        WhipOutput(address)
