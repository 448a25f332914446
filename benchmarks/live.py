"""A real recording sent to ``moda serve`` as it is spoken: delays, sync, drift, barge-in, memory.

    python benchmarks/live.py portrait.jpg speech.wav --minutes 10 --output result.json
    python benchmarks/live.py portrait.jpg speech.wav --minutes 2 --sessions 2
    python benchmarks/live.py portrait.jpg speech.wav --minutes 10 --webrtc

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
from live_measures import (
    AFTER_BARGE_IN_SECONDS,
    BARGE_IN_EVERY_SECONDS,
    IDLE_SECONDS,
    LOUD,
    OPEN_GAP,
    RATE,
    SYNC_SECONDS,
    first_open,
    is_time_for_barge_in,
    long_speech,
    sound_delay,
    sync_milliseconds,
    tracked_gaps,
)
from PIL import Image

from moda.media.waves import write_pcm
from moda.serving.client import Frame, LiveClient

PACKET = RATE // 50
"""Samples of 20 ms."""


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


async def talk(address: str, samples: np.ndarray, *, barge_in: bool) -> Recording:
    """One session over the WebSocket, in real time."""
    record = Recording()
    async with LiveClient(address, {"sample_rate": RATE}) as session:
        begun = time.monotonic()

        async def speak() -> None:
            next_interrupt = BARGE_IN_EVERY_SECONDS / 2
            for start in range(0, len(samples), PACKET):
                due = begun + start / RATE
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                record.sent.append((time.monotonic(), start))
                await session.send_sound(write_pcm(samples[start : start + PACKET]))
                if barge_in and is_time_for_barge_in(samples, start, next_interrupt):
                    record.interrupts.append(time.monotonic())
                    await session.interrupt()
                    next_interrupt += BARGE_IN_EVERY_SECONDS
            await session.end()

        speaking = asyncio.create_task(speak())
        async for message in session.messages():
            if isinstance(message, Frame):
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
    return first_open(np.array([one.seconds for one in early]), gaps, spoken)


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
        from live_webrtc import talk_by_webrtc

        rows = [await talk_by_webrtc(address, samples)]
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
        "date": time.strftime("%Y-%m-%d"),
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
