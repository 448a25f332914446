"""A real recording sent to ``moda serve`` as it is spoken: delays, sync, drift, barge-in, memory.

    python benchmarks/live.py portrait.jpg speech.wav --minutes 10 --output result.json
    python benchmarks/live.py portrait.jpg speech.wav --minutes 2 --sessions 2
    python benchmarks/live.py portrait.jpg speech.wav --minutes 2 --webrtc

The client keeps what it needs and looks at it when the session is over, so that it takes no time
from the server. What the mouth does is measured on the pictures that arrived, by tracking them.

first picture: from sending the packet with the first loud sample to the arrival of the first
    picture whose lips are further apart than at rest.
sync: lips of the last minute against the offline lips of the recording, in the time of the sound
    that came with them. Positive is picture late.
barge-in: from sending the interruption to the arrival of silence, and of closed lips.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from moda.checkpoints import load_checkpoint
from moda.encoders.face import FaceModels, FaceTracker
from moda.evaluation.lips import sampled_motion, whole_speech
from moda.landmarks import lip_gap
from moda.media import AudioReader
from moda.motion.lips import lips_of_motion, mean_identity
from moda.serving.client import LiveClient
from moda.serving.protocol import PackedFrame, Start, write_sound

RATE = 16_000
PACKET = RATE // 50
"""Samples of 20 ms."""
IDLE_SECONDS = 4.0
"""Of silence before the recording begins."""
LOUD = 0.05
SYNC_SECONDS = 60.0
BARGE_IN_EVERY_SECONDS = 60.0
AFTER_BARGE_IN_SECONDS = 1.5
OPEN_GAP = 0.012
"""Canonical units beyond the resting gap at which lips count as open."""


@dataclass
class Arrival:
    """One frame as the client got it."""

    seconds: float
    number: int
    jpeg: bytes
    sound: bytes


@dataclass
class Recording:
    """What one session sent and got."""

    sent: list[tuple[float, int]] = field(default_factory=list)
    """Time and place in the recording of each packet."""
    arrivals: list[Arrival] = field(default_factory=list)
    interrupts: list[float] = field(default_factory=list)
    statuses: list[dict[str, Any]] = field(default_factory=list)


def long_speech(path: Path, seconds: float) -> np.ndarray:
    """The recording over and over, with pauses of a second, after some silence."""
    speech = np.concatenate(list(AudioReader(path, RATE)))
    one = np.concatenate([speech, np.zeros(RATE, np.float32)])
    spoken = np.tile(one, int(seconds * RATE / len(one)) + 1)[: int(seconds * RATE)]
    return np.concatenate([np.zeros(int(IDLE_SECONDS * RATE), np.float32), spoken])


async def talk(address: str, samples: np.ndarray, *, barge_in: bool) -> Recording:
    """One session over the WebSocket, in real time."""
    record = Recording()
    async with LiveClient(address, Start(sample_rate=RATE)) as session:
        begun = time.monotonic()

        async def speak() -> None:
            next_interrupt = BARGE_IN_EVERY_SECONDS / 2
            for start in range(0, len(samples), PACKET):
                due = begun + start / RATE
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                record.sent.append((time.monotonic(), start))
                await session.send_sound(write_sound(samples[start : start + PACKET]))
                ends_soon = start / RATE > len(samples) / RATE - SYNC_SECONDS - 5.0
                if barge_in and start / RATE > next_interrupt and not ends_soon:
                    recent = samples[max(0, start - RATE // 2) : start]
                    if np.sqrt(np.mean(recent**2)) > LOUD:
                        record.interrupts.append(time.monotonic())
                        await session.interrupt()
                        next_interrupt += BARGE_IN_EVERY_SECONDS
            await session.end()

        speaking = asyncio.create_task(speak())
        async for message in session.messages():
            if isinstance(message, PackedFrame):
                now = time.monotonic()
                record.arrivals.append(Arrival(now, message.number, message.jpeg, message.sound))
                forget_pictures(record, now)
            elif message["type"] == "status":
                record.statuses.append(message)
        await speaking
    return record


def forget_pictures(record: Recording, now: float) -> None:
    """Keep pictures of the beginning, of interruptions, and of the last minute only."""
    index = len(record.arrivals) - 1 - int((SYNC_SECONDS + 5.0) * 25)
    if index < 0:
        return
    arrival = record.arrivals[index]
    first = record.arrivals[0].seconds
    is_early = arrival.seconds < first + IDLE_SECONDS + 10.0
    near = any(-0.2 < arrival.seconds - at < AFTER_BARGE_IN_SECONDS for at in record.interrupts)
    if not (is_early or near):
        arrival.jpeg = b""


def tracked_gaps(pictures: Sequence[np.ndarray | None]) -> np.ndarray:
    """Lip gap (N,) of pictures in canonical units; NaN where there is none."""
    tracker = FaceTracker(FaceModels())
    gaps = np.full(len(pictures), np.nan)
    for index, picture in enumerate(pictures):
        face = None if picture is None else tracker.track(picture)
        if face is not None:
            gaps[index] = float(lip_gap(face.points[None].astype(np.float64))[0])
    return gaps


def decoded(arrivals: Sequence[Arrival]) -> list[np.ndarray | None]:
    """Pictures (H, W, 3); None where none came."""
    return [
        np.asarray(Image.open(BytesIO(arrival.jpeg)).convert("RGB")) if arrival.jpeg else None
        for arrival in arrivals
    ]


def first_picture_seconds(record: Recording, samples: np.ndarray) -> float:
    """Delay of the first open lips."""
    onset = int(np.flatnonzero(np.abs(samples) > LOUD)[0])
    spoken = next(at for at, start in record.sent if start + PACKET > onset)
    early = [one for one in record.arrivals if one.seconds < spoken + 1.5]
    gaps = tracked_gaps(decoded(early))
    times = np.array([one.seconds for one in early])
    rest = np.nanmedian(gaps[times < spoken])
    opened = np.flatnonzero((times > spoken) & (gaps > rest + OPEN_GAP))
    return float(times[opened[0]] - spoken) if len(opened) else float("nan")


def sound_delay(got: np.ndarray, samples: np.ndarray, near: int) -> int:
    """Place in ``samples`` at which the stretch that came back begins."""
    begin = max(0, near - 3 * RATE)
    part = samples[begin : near + 3 * RATE + len(got)]
    size = 1 << int(np.ceil(np.log2(len(part) + len(got))))
    match = np.fft.irfft(np.fft.rfft(part, size) * np.conj(np.fft.rfft(got, size)), size)
    return begin + int(np.argmax(match[: len(part) - len(got) + 1]))


def sync_milliseconds(
    pictures: Sequence[np.ndarray | None], got: np.ndarray, samples: np.ndarray, near: int
) -> tuple[float, float]:
    """Offset of picture against sound and the correlation there; 25 pictures a second."""
    begin = sound_delay(got, samples, near)
    gaps = tracked_gaps(pictures)
    known = np.flatnonzero(np.isfinite(gaps))
    gaps = np.interp(np.arange(len(gaps)), known, gaps[known])
    checkpoint = load_checkpoint("moda-tiny")
    context = min(begin, 8 * RATE)
    stretch = samples[begin - context : begin + len(got) + RATE]
    motion = sampled_motion(
        checkpoint, whole_speech(stretch), identity=mean_identity(checkpoint.space)
    )
    offline, _ = lips_of_motion(motion)
    places = context / RATE * 25 + np.arange(len(gaps))
    lags = np.arange(-8.0, 8.01, 0.125)
    scores = [
        np.corrcoef(gaps, np.interp(places - lag, np.arange(len(offline)), offline))[0, 1]
        for lag in lags
    ]
    best = int(np.argmax(scores))
    return float(lags[best] * 40.0), float(scores[best])


def barge_in_seconds(record: Recording) -> list[dict[str, float]]:
    """For each interruption, delay of silence and of closed lips."""
    results = []
    for at in record.interrupts:
        around = [one for one in record.arrivals if -0.2 < one.seconds - at < 1.2]
        after = [one for one in around if one.seconds > at]
        quiet = next((one for one in after if not any(one.sound[len(one.sound) // 2 :])), None)
        gaps = tracked_gaps(decoded(after))
        rest = np.nanmin(gaps) + OPEN_GAP / 2
        closed = next(
            (one for one, gap in zip(after, gaps, strict=True) if one.jpeg and gap <= rest), None
        )
        results.append(
            {
                "silent_seconds": round(quiet.seconds - at, 3) if quiet else float("nan"),
                "closed_seconds": round(closed.seconds - at, 3) if closed else float("nan"),
            }
        )
    return results


def report(record: Recording, samples: np.ndarray) -> dict[str, Any]:
    """All that is measured on one session."""
    arrivals = record.arrivals
    times = np.array([one.seconds for one in arrivals])
    numbers = np.array([one.number for one in arrivals])
    late = times - numbers / 25
    late -= late.min()
    minute = len(arrivals) // max(1, round(len(arrivals) / 1500))
    last = [one for one in arrivals if one.seconds > times[-1] - SYNC_SECONDS]
    last = last[: int((SYNC_SECONDS - 3.0) * 25)]
    got = np.frombuffer(b"".join(one.sound for one in last), "<i2").astype(np.float32) / 32768
    near = int((last[0].seconds - record.sent[0][0]) * RATE)
    offset, correlation = sync_milliseconds(decoded(last), got, samples, near)
    barge_ins = barge_in_seconds(record)
    return {
        "seconds": round(float(times[-1] - times[0]), 1),
        "frames": len(arrivals),
        "missing_numbers": int((np.diff(numbers) != 1).sum()),
        "first_picture_seconds": round(first_picture_seconds(record, samples), 3),
        "frame_lateness_seconds": {
            "median": round(float(np.median(late)), 3),
            "p99": round(float(np.quantile(late, 0.99)), 3),
            "max": round(float(late.max()), 3),
        },
        "drift_seconds": round(float(np.median(late[-minute:]) - np.median(late[:minute])), 4),
        "sound_round_trip_seconds": {
            "begin": round(round_trip(record, samples, arrivals[150:500]), 3),
            "end": round(round_trip(record, samples, last), 3),
        },
        "sync_milliseconds": offset,
        "sync_correlation": round(correlation, 3),
        "barge_in": barge_ins,
        "undrawn_frames": record.statuses[-1]["undrawn_frames"] if record.statuses else None,
        "skipped_seconds": record.statuses[-1]["skipped_seconds"] if record.statuses else None,
    }


def round_trip(record: Recording, samples: np.ndarray, stretch: Sequence[Arrival]) -> float:
    """From sending a sample to the arrival of the frame that carries it."""
    got = np.frombuffer(b"".join(one.sound for one in stretch), "<i2").astype(np.float32) / 32768
    near = int((stretch[0].seconds - record.sent[0][0]) * RATE)
    place = sound_delay(got, samples, near)
    sent = record.sent[min(place // PACKET, len(record.sent) - 1)][0]
    return stretch[0].seconds - sent


async def talk_by_webrtc(address: str, path: Path, samples: np.ndarray) -> dict[str, Any]:
    """One session over WebRTC with aiortc: first picture, and sync by the time of arrival."""
    from fractions import Fraction

    from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
    from av.audio.frame import AudioFrame

    rate = 48_000
    sound48 = np.repeat(samples, 3)

    class Microphone(MediaStreamTrack):
        kind = "audio"

        def __init__(self) -> None:
            super().__init__()
            self.place, self.begun = 0, 0.0
            self.onset = int(np.flatnonzero(np.abs(samples) > LOUD)[0]) * 3
            self.spoken = 0.0

        async def recv(self) -> AudioFrame:
            self.begun = self.begun or time.monotonic()
            await asyncio.sleep(max(0.0, self.begun + self.place / rate - time.monotonic()))
            part = sound48[self.place : self.place + 960]
            part = np.pad(part, (0, 960 - len(part)))
            if not self.spoken and self.place + 960 > self.onset:
                self.spoken = time.monotonic()
            frame = AudioFrame.from_ndarray((part * 32767).astype(np.int16)[None], "s16", "mono")
            frame.sample_rate, frame.pts = rate, self.place
            frame.time_base = Fraction(1, rate)
            self.place += 960
            return frame

    microphone, peer = Microphone(), RTCPeerConnection(RTCConfiguration([]))
    pictures: list[tuple[float, np.ndarray]] = []
    sounds: list[tuple[float, np.ndarray]] = []
    tasks = []

    async def collect(track: Any) -> None:
        while True:
            frame = await track.recv()
            now = time.monotonic()
            if track.kind == "video":
                pictures.append((now, frame.to_ndarray(format="rgb24")))
                total = len(pictures)
                if total > 800:
                    pictures[total - 560] = (pictures[total - 560][0], np.zeros(0))
            else:
                values = frame.to_ndarray().reshape(-1, 2)[::3, 0].astype(np.float32) / 32768
                sounds.append((now, values))

    @peer.on("track")
    def came(track: Any) -> None:
        tasks.append(asyncio.ensure_future(collect(track)))

    peer.addTrack(microphone)
    peer.addTransceiver("video", direction="recvonly")
    channel = peer.createDataChannel("control")
    await peer.setLocalDescription(await peer.createOffer())
    async with httpx.AsyncClient(timeout=60) as http:
        answer = await http.post(
            f"{address}/v1/live/offer", json={"sdp": peer.localDescription.sdp, "start": {}}
        )
        answer.raise_for_status()
        body = answer.json()
        await peer.setRemoteDescription(RTCSessionDescription(body["sdp"], "answer"))
        while microphone.place < len(sound48):
            await asyncio.sleep(0.1)
        assert channel.readyState == "open"
        await http.delete(f"{address}/v1/live/{body['id']}")
    for task in tasks:
        task.cancel()
    await peer.close()

    early = [(at, picture) for at, picture in pictures if picture.size][:400]
    early = [pair for pair in early if pair[0] < microphone.spoken + 1.5]
    gaps = tracked_gaps([picture for _, picture in early])
    times = np.array([at for at, _ in early])
    rest = np.nanmedian(gaps[times < microphone.spoken])
    opened = np.flatnonzero((times > microphone.spoken) & (gaps > rest + OPEN_GAP))
    last = [(at, picture) for at, picture in pictures if picture.size][-500:]
    grid = np.arange(last[0][0], last[-1][0] - 0.5, 0.04)
    order = np.array([at for at, _ in last])
    shown: list[np.ndarray | None] = [last[int(np.searchsorted(order, at)) - 1][1] for at in grid]
    heard = [pair for pair in sounds if pair[0] >= grid[0]]
    got = np.concatenate([values for _, values in heard])[: len(grid) * 640]
    near = int((heard[0][0] - microphone.begun) * RATE)
    offset, correlation = sync_milliseconds(shown, got, samples, near)
    return {
        "transport": "webrtc",
        "seconds": round(pictures[-1][0] - pictures[0][0], 1),
        "pictures": len(pictures),
        "first_picture_seconds": round(float(times[opened[0]] - microphone.spoken), 3)
        if len(opened)
        else None,
        "sync_milliseconds": offset,
        "sync_correlation": round(correlation, 3),
    }


def memory_megabytes(pid: int) -> float:
    """Resident memory of a process and its children."""
    total = 0.0
    for path in Path("/proc").iterdir():
        if not path.name.isdigit():
            continue
        try:
            fields = (path / "stat").read_text().rsplit(")", 1)[1].split()
            if int(path.name) == pid or int(fields[1]) == pid:
                total += int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6
        except (OSError, IndexError):
            continue
    return total


async def watch_memory(pid: int, into: list[float]) -> None:
    """The memory of the server every ten seconds."""
    while True:
        into.append(round(memory_megabytes(pid)))
        await asyncio.sleep(10.0)


async def measure(arguments: argparse.Namespace, address: str, pid: int) -> dict[str, Any]:
    """All sessions at once, and the memory of the server meanwhile."""
    samples = long_speech(arguments.speech, arguments.minutes * 60)
    memory: list[float] = []
    watching = asyncio.create_task(watch_memory(pid, memory))
    if arguments.webrtc:
        rows = [await talk_by_webrtc(address, arguments.speech, samples)]
    else:
        await talk(address, samples[: 6 * RATE], barge_in=False)  # warm
        records = await asyncio.gather(
            *(talk(address, samples, barge_in=True) for _ in range(arguments.sessions))
        )
        rows = [report(record, samples) for record in records]
    watching.cancel()
    return {"sessions": rows, "server_memory_megabytes": memory}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("portrait", type=Path)
    parser.add_argument("speech", type=Path)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--sessions", type=int, default=1)
    parser.add_argument("--webrtc", action="store_true")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "moda", "serve", str(arguments.portrait)),
            *("--port", str(port), "--size", str(arguments.size)),
            *("--sessions", str(arguments.sessions)),
        ]
    )
    try:
        while httpx_status(address) != 200:
            if server.poll() is not None:
                raise SystemExit("the server did not start")
            time.sleep(0.5)
        load = os.getloadavg()[0]
        result = asyncio.run(measure(arguments, address, server.pid))
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "load_before": load,
        "load_after": os.getloadavg()[0],
        "size": arguments.size,
        **result,
    }
    print(json.dumps(result, indent=1))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


def httpx_status(address: str) -> int:
    """Status of the server's readiness, 0 while it cannot be reached."""
    try:
        return httpx.get(f"{address}/readyz", timeout=5.0).status_code
    except httpx.TransportError:
        return 0


if __name__ == "__main__":
    main()
