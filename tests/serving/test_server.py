"""A real server on loopback, with real clients."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import time
import wave
from collections.abc import Awaitable, Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from hostile import ATTACKS, Attack
from live_server import KEY, RunningServer, is_alive, start_server, wait_until
from PIL import Image
from websockets.client import ClientProtocol
from websockets.uri import parse_uri

from moda.media import AudioReader
from moda.media.waves import write_pcm
from moda.serving.client import Frame, LiveClient, ServerError, VideoClient
from moda.speech_synthesis import espeak_is_installed
from paths import EXAMPLES

RATE = 16_000
FRAME_BYTES = RATE // 25 * 2
LATE_FRAMES = 6


@pytest.fixture(scope="module")
def pcm() -> bytes:
    """Two seconds of speech."""
    samples = np.concatenate(list(AudioReader(EXAMPLES / "speech.wav", RATE)))
    return write_pcm(samples[RATE // 2 : RATE // 2 + 2 * RATE])


def live(server: RunningServer, **start: Any) -> LiveClient:
    start = {"sample_rate": RATE, "pace": "ahead", **start}
    return LiveClient(server.address, start, api_key=KEY)


async def everything(session: LiveClient) -> tuple[list[Frame], list[dict[str, Any]]]:
    """All that a session says until it ends."""
    frames, events = [], []
    async for message in session.messages():
        (frames if isinstance(message, Frame) else events).append(message)
    return frames, events


async def until(session: LiveClient, found: Callable[[Any], bool]) -> Any:
    """The first message of a kind."""
    async for message in session.messages():
        if found(message):
            return message
    raise AssertionError("the session ended")


def is_event(kind: str) -> Callable[[Any], bool]:
    return lambda message: isinstance(message, dict) and message["type"] == kind


def is_loud(sounds: list[Any]) -> bool:
    """Whether speech has come over WebRTC."""
    return any(np.abs(sound.to_ndarray()).max() > 1000 for sound in list(sounds))


def run(work: Awaitable[Any]) -> Any:
    async def limited() -> Any:
        return await asyncio.wait_for(work, 240)

    return asyncio.run(limited())


def free_again(server: RunningServer) -> bool:
    return wait_until(lambda: server.request("GET", "/v1/info").json()["free_sessions"] == 1)


def test_a_websocket_speaks_what_it_is_sent_and_ends(server: RunningServer, pcm: bytes) -> None:
    async def talk() -> tuple[list[Frame], list[dict[str, Any]]]:
        async with live(server, portrait="portrait", emotion="happy") as session:
            assert (session.started["width"], session.started["height"]) == (128, 128)
            await session.send_sound(pcm)  # at once: a slow machine must not let it run out
            await session.end()
            return await everything(session)

    frames, events = run(talk())
    assert [frame.number for frame in frames] == list(range(frames[0].number, len(frames)))
    assert all(len(frame.sound) == FRAME_BYTES for frame in frames)
    sound = b"".join(frame.sound for frame in frames)
    assert sound.find(pcm) >= 0  # whole, and not a bit changed
    pictures = [Image.open(BytesIO(frame.jpeg)) for frame in frames if frame.jpeg]
    assert pictures
    assert {picture.size for picture in pictures} == {(128, 128)}
    assert any(frame.is_speaking for frame in frames)
    kinds = [event["type"] for event in events]
    assert kinds[-1] == "ended"
    assert {"speaking", "silent", "status"} <= set(kinds)
    assert free_again(server)


def test_an_interruption_is_answered_with_the_first_silent_frame(
    server: RunningServer, pcm: bytes
) -> None:
    async def talk() -> tuple[int, list[Frame]]:
        async with live(server) as session:
            await session.send_sound(pcm)
            await until(session, is_event("speaking"))
            await session.interrupt()
            silent = (await until(session, is_event("interrupted")))["frame"]
            frames = []
            async for message in session.messages():
                if isinstance(message, Frame):
                    frames.append(message)
                    if message.number >= silent + 5:
                        break
            return silent, frames

    silent, frames = run(talk())
    after = [frame for frame in frames if frame.number > silent]
    assert len(after) == 5
    assert not any(any(frame.sound) or frame.is_speaking for frame in after)
    assert free_again(server)


def test_one_client_waits_in_line_and_the_next_is_refused(server: RunningServer) -> None:
    async def crowd() -> tuple[ServerError, bool]:
        async with live(server) as first:
            second = asyncio.create_task(live(server).__aenter__())
            await asyncio.sleep(0.1)
            while b"moda_live_waiting 1.0" not in server.request("GET", "/metrics").content:
                await asyncio.sleep(0.05)
            with pytest.raises(ServerError) as refusal:
                await live(server).__aenter__()
            assert not second.done()
            assert first.started
        session = await second
        started = bool(session.started)
        await session.__aexit__(None, None, None)
        return refusal.value, started

    refusal, started = run(crowd())
    assert refusal.status == 503
    assert started
    assert free_again(server)


def test_webrtc_gives_picture_and_sound_for_sound(server: RunningServer, pcm: bytes) -> None:
    aiortc = pytest.importorskip("aiortc")
    media = pytest.importorskip("aiortc.contrib.media")

    async def talk() -> tuple[list[Any], list[Any], list[str]]:
        peer = aiortc.RTCPeerConnection(aiortc.RTCConfiguration([]))
        pictures, sounds, events = [], [], []
        player = media.MediaPlayer(str(EXAMPLES / "speech.wav"))
        peer.addTrack(player.audio)
        peer.addTransceiver("video", direction="recvonly")
        channel = peer.createDataChannel("control")
        channel.on("message", events.append)
        tasks = []

        async def collect(track: Any, into: list[Any]) -> None:
            while True:
                into.append(await track.recv())

        @peer.on("track")
        def came(track: Any) -> None:
            into = pictures if track.kind == "video" else sounds
            tasks.append(asyncio.ensure_future(collect(track, into)))

        await peer.setLocalDescription(await peer.createOffer())
        answer = await asyncio.to_thread(
            server.request,
            "POST",
            "/v1/live/offer",
            json={"sdp": peer.localDescription.sdp, "start": {"portrait": "portrait"}},
        )
        assert answer.status_code == 201, answer.text
        body = answer.json()
        await peer.setRemoteDescription(aiortc.RTCSessionDescription(body["sdp"], "answer"))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not any("speaking" in event for event in events):
            await asyncio.sleep(0.05)
        while time.monotonic() < deadline and not (len(pictures) > 10 and is_loud(sounds)):
            await asyncio.sleep(0.05)
        channel.send('{"type":"interrupt"}')
        while time.monotonic() < deadline and not any("interrupted" in event for event in events):
            await asyncio.sleep(0.05)
        gone = await asyncio.to_thread(server.request, "DELETE", f"/v1/live/{body['id']}")
        assert gone.status_code == 204
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        player.audio.stop()
        await peer.close()
        return pictures, sounds, events

    pictures, sounds, events = run(talk())
    assert len(pictures) >= 10
    assert {(picture.width, picture.height) for picture in pictures} == {(128, 128)}
    assert len({picture.to_ndarray(format="gray").tobytes() for picture in pictures}) > 5
    assert is_loud(sounds)
    assert any("interrupted" in event for event in events)
    assert free_again(server)


def test_a_video_is_made_fetched_and_removed(
    server: RunningServer, pcm: bytes, tmp_path: Path
) -> None:
    speech, output = tmp_path / "speech.wav", tmp_path / "talk.mp4"
    _write_wav(speech, pcm[: RATE * 2])
    seen: list[float] = []
    with VideoClient(server.address, api_key=KEY) as client:
        identifier = client.request_video(
            EXAMPLES / "portrait.jpg", speech, seed=3, size=128, style="sad, purple", lips_only=True
        )
        early = server.request("GET", f"/v1/videos/{identifier}/result")
        assert early.status_code == 409
        client.wait(identifier, progress=seen.append)
        client.fetch(identifier, output)
        status = client.status(identifier)
        client.delete(identifier)
        with pytest.raises(ServerError) as gone:
            client.status(identifier)
    assert gone.value.status == 404
    assert status["seconds"] == pytest.approx(1.0)
    assert status["notes"] == ["not understood in the style: 'purple'"]
    with av.open(str(output)) as container:
        assert len(list(container.decode(video=0))) == 25
        assert container.metadata["synthetic_media"] == "true"
    assert server.leftovers() == []


def test_notes_on_the_files_reach_the_client(server: RunningServer, tmp_path: Path) -> None:
    """Known at once, and known at the end; without the folders of the server."""
    speech = tmp_path / "speech.wav"
    _write_wav(speech, bytes(4 * RATE))
    speech.write_bytes(speech.read_bytes() * 2)
    with VideoClient(server.address, api_key=KEY) as client:
        identifier = client.request_video(EXAMPLES / "portrait.jpg", speech, size=128)
        client.wait(identifier)
        notes = client.status(identifier)["notes"]
        client.delete(identifier)
    assert notes == [
        "the speech holds several recordings one after the other; the first is used",
        "no speech was found in speech; the lips stay closed",
    ]


def test_what_is_found_out_late_is_told_without_paths(server: RunningServer, pcm: bytes) -> None:
    """A picture whose header is right, without a face."""
    grey = BytesIO()
    Image.new("RGB", (200, 200), (90, 90, 90)).save(grey, "PNG")
    wav = _wav_bytes(pcm)
    form = {"portrait": ("../../x", grey.getvalue()), "speech": ("y", wav)}
    made = server.request("POST", "/v1/videos", files=form)
    assert made.status_code == 202
    address = made.headers["location"]
    assert wait_until(lambda: server.request("GET", address).json()["state"] == "failed", 120)
    error = server.request("GET", address).json()["error"]
    assert "face" in error
    assert "/" not in error
    assert server.request("DELETE", address).status_code == 204
    assert server.leftovers() == []


def test_text_is_spoken_where_there_is_a_voice(server: RunningServer) -> None:
    files = {"portrait": (EXAMPLES / "portrait.jpg").read_bytes()}
    data = {"text": "[happy] Hallo!", "language": "de", "size": "64"}
    answer = server.request("POST", "/v1/videos", files=files, data=data)
    if not espeak_is_installed():
        assert answer.status_code == 501
        return
    assert answer.status_code == 202
    address = answer.headers["location"]
    assert wait_until(lambda: server.request("GET", address).json()["state"] == "done")
    assert server.request("DELETE", address).status_code == 204
    wrong = server.request("POST", "/v1/videos", files=files, data=data | {"text": "[glad] Hi."})
    assert wrong.status_code == 422
    assert "glad" in wrong.json()["detail"]
    assert server.leftovers() == []


def test_health_metrics_and_pages(server: RunningServer) -> None:
    assert httpx.get(server.address + "/healthz").json() == {"status": "ok"}
    assert httpx.get(server.address + "/readyz").json() == {"status": "ready", "workers": 1}
    assert httpx.get(server.address + "/metrics").status_code == 401
    counts = server.request("GET", "/metrics").text
    assert "moda_live_frames_total" in counts
    paths = httpx.get(server.address + "/openapi.json").json()["paths"]
    assert {"/v1/videos", "/v1/videos/{identifier}/result", "/v1/live/offer"} <= set(paths)
    for path in (
        "/",
        "/api",
        "/page/live.js",
        "/page/player.js",
        "/page/palette.css",
        "/page/style.css",
    ):
        answer = httpx.get(server.address + path)
        assert answer.status_code == 200
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "https://" not in answer.text.replace("https://example", "")


def test_clients_say_what_the_server_said(server: RunningServer) -> None:
    async def without_key() -> None:
        await LiveClient(server.address).__aenter__()

    with pytest.raises(ServerError, match="API key") as refusal:
        run(without_key())
    assert refusal.value.status == 401
    with pytest.raises(ServerError, match="cannot be reached"):
        VideoClient("http://127.0.0.1:1").status("x")


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_hostile_requests_get_the_right_answer(server: RunningServer, attack: Attack) -> None:
    rng = random.Random(attack.name)
    for _ in range(2):
        assert attack.run(server, rng) in attack.right
    assert server.process.poll() is None


def test_after_all_that_the_server_is_as_it_was(server: RunningServer) -> None:
    assert free_again(server)
    assert httpx.get(server.address + "/readyz").status_code == 200
    assert wait_until(lambda: server.leftovers() == [])
    assert "Traceback" not in server.log.read_text()


@pytest.mark.slow
def test_a_thousand_hostile_requests(server: RunningServer) -> None:
    children = len(server.children())
    rng = random.Random(20)
    wrong = []
    for number in range(1000):
        attack = rng.choice(ATTACKS)
        status = attack.run(server, rng)
        if status not in attack.right:
            wrong.append((number, attack.name, status))
    assert wrong == []
    assert free_again(server)
    assert len(server.children()) == children
    assert wait_until(lambda: server.leftovers() == [])
    assert "Traceback" not in server.log.read_text()


@pytest.mark.slow
def test_a_client_that_takes_nothing_is_given_up(server: RunningServer) -> None:
    uri = server.address.replace("http", "ws") + "/v1/live"
    protocol = ClientProtocol(parse_uri(uri), subprotocols=["moda.v1", f"moda.key.{KEY}"])
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        protocol.send_request(protocol.connect())
        connection.sendall(b"".join(protocol.data_to_send()))
        protocol.receive_data(connection.recv(4096))
        protocol.send_text(b'{"type":"start","sample_rate":16000}')
        connection.sendall(b"".join(protocol.data_to_send()))
        assert wait_until(
            lambda: server.request("GET", "/v1/info").json()["free_sessions"] == 0, 60
        )
        assert wait_until(
            lambda: server.request("GET", "/v1/info").json()["free_sessions"] == 1, 120
        )


@pytest.mark.slow
def test_a_running_video_is_stopped_by_its_deletion(server: RunningServer, pcm: bytes) -> None:
    form = {
        "portrait": (EXAMPLES / "portrait.jpg").read_bytes(),
        "speech": _wav_bytes(pcm * 60),
    }
    address = server.request("POST", "/v1/videos", files=form).headers["location"]
    assert wait_until(lambda: server.request("GET", address).json()["progress"] > 0, 120)
    assert server.request("DELETE", address).status_code == 204
    assert wait_until(lambda: server.leftovers() == [])
    short = {**form, "speech": _wav_bytes(pcm[: RATE * 2])}
    address = server.request("POST", "/v1/videos", files=short).headers["location"]
    assert wait_until(lambda: server.request("GET", address).json()["state"] == "done", 120)
    server.request("DELETE", address)


@pytest.mark.slow
def test_workers_that_die_are_replaced(server: RunningServer) -> None:
    async def lose() -> ServerError:
        async with live(server) as session:
            for child in server.children():
                if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                    os.kill(child, signal.SIGKILL)
            with pytest.raises(ServerError) as closed:
                await everything(session)
            return closed.value

    assert run(lose()).status == 1011
    assert wait_until(lambda: httpx.get(server.address + "/readyz").json().get("workers") == 1, 240)
    assert free_again(server)


@pytest.mark.slow
def test_a_server_that_is_killed_leaves_no_process(tmp_path: Path, pcm: bytes) -> None:
    doomed = start_server(
        tmp_path, str(EXAMPLES / "portrait.jpg"), "--sessions", "2", "--size", "128"
    )
    form = {"portrait": (EXAMPLES / "portrait.jpg").read_bytes(), "speech": _wav_bytes(pcm * 60)}
    address = doomed.request("POST", "/v1/videos", files=form).headers["location"]
    assert wait_until(lambda: doomed.request("GET", address).json()["progress"] > 0, 120)
    children = doomed.children()
    assert len(children) >= 3
    doomed.process.kill()
    doomed.process.wait()
    assert wait_until(lambda: not any(is_alive(child) for child in children))
    assert wait_until(lambda: doomed.folders() == [])


@pytest.mark.slow
def test_sigterm_ends_sessions_with_a_word(tmp_path: Path) -> None:
    ending = start_server(
        tmp_path, str(EXAMPLES / "portrait.jpg"), "--sessions", "1", "--size", "128"
    )

    async def talk() -> ServerError:
        async with live(ending) as session:
            await until(session, lambda message: isinstance(message, Frame))
            ending.process.terminate()
            with pytest.raises(ServerError) as closed:
                await everything(session)
            return closed.value

    assert run(talk()).status == 1012
    assert ending.process.wait(30) == 143


def _wav_bytes(pcm: bytes) -> bytes:
    file = BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, RATE, 0, "NONE", ""))
        writer.writeframes(pcm)
    return file.getvalue()


def _write_wav(path: Path, pcm: bytes) -> None:
    path.write_bytes(_wav_bytes(pcm))
