"""A WebRTC client, written with aiortc, that speaks to ``moda serve`` and measures what comes back.

Sound and pictures are taken as they arrive; no clock of the sender is looked at, so the offset
between them is what a client without a playout buffer would see. See ``live.py``, which runs this.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import httpx
import numpy as np
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from av.audio.frame import AudioFrame
from live_measures import (
    AFTER_BARGE_IN_SECONDS,
    BARGE_IN_EVERY_SECONDS,
    IDLE_SECONDS,
    LOUD,
    OPEN_GAP,
    RATE,
    first_open,
    is_time_for_barge_in,
    sound_delay,
    sync_milliseconds,
    tracked_gaps,
)

SENT_RATE = 48_000
PACKET = SENT_RATE // 50
SILENT = 0.003
"""Largest sample of what Opus makes of silence."""
PICTURES_PER_SECOND = 25

Sound = tuple[float, np.ndarray]
Shown = tuple[float, "np.ndarray | None"]


class Microphone(MediaStreamTrack):
    """Plays samples in real time, once."""

    kind = "audio"

    def __init__(self, samples: np.ndarray) -> None:
        super().__init__()
        self.samples = np.repeat(samples, SENT_RATE // RATE)
        self.place, self.begun = 0, 0.0
        self.onset = int(np.flatnonzero(np.abs(self.samples) > LOUD)[0])
        self.spoken = 0.0
        """When the packet with the first loud sample was sent."""

    @property
    def is_over(self) -> bool:
        return self.place >= len(self.samples)

    async def recv(self) -> AudioFrame:
        self.begun = self.begun or time.monotonic()
        due = self.begun + self.place / SENT_RATE
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        part = self.samples[self.place : self.place + PACKET]
        part = np.pad(part, (0, PACKET - len(part)))
        if not self.spoken and self.place + PACKET > self.onset:
            self.spoken = time.monotonic()
        frame = AudioFrame.from_ndarray((part * 32767).astype(np.int16)[None], "s16", "mono")
        frame.sample_rate, frame.pts = SENT_RATE, self.place
        frame.time_base = Fraction(1, SENT_RATE)
        self.place += PACKET
        return frame


@dataclass
class Received:
    """What came, each with its time; most pictures of the middle are not kept."""

    pictures: list[Shown] = field(default_factory=list)
    sounds: list[Sound] = field(default_factory=list)
    """At 16 kHz."""
    interrupts: list[float] = field(default_factory=list)

    async def collect(self, track: MediaStreamTrack) -> None:
        """Take what a track brings until it is cancelled."""
        while True:
            frame: Any = await track.recv()
            now = time.monotonic()
            if track.kind == "video":
                self.pictures.append((now, frame.to_ndarray(format="rgb24")))
                self.forget(now)
            else:
                stereo = frame.to_ndarray().reshape(-1, 2)
                values = stereo[:: SENT_RATE // RATE, 0].astype(np.float32) / 32768
                self.sounds.append((now, values))

    def forget(self, now: float) -> None:
        """Keep pictures of the beginning, of interruptions, and of the last 25 seconds only."""
        index = len(self.pictures) - 1 - 25 * PICTURES_PER_SECOND
        if index < 0:
            return
        at = self.pictures[index][0]
        is_early = at < self.pictures[0][0] + IDLE_SECONDS + 4.0
        near = any(-0.2 < at - each < AFTER_BARGE_IN_SECONDS for each in self.interrupts)
        if not (is_early or near):
            self.pictures[index] = (at, None)


async def talk_by_webrtc(address: str, samples: np.ndarray) -> dict[str, Any]:
    """One session in real time, with an interruption a minute; what was measured on it."""
    microphone, received = Microphone(samples), Received()
    peer = RTCPeerConnection(RTCConfiguration([]))
    tasks: list[asyncio.Task[None]] = []

    @peer.on("track")
    def came(track: MediaStreamTrack) -> None:
        tasks.append(asyncio.ensure_future(received.collect(track)))

    peer.addTrack(microphone)
    peer.addTransceiver("video", direction="recvonly")
    channel = peer.createDataChannel("control")
    statuses: list[dict[str, Any]] = []

    @channel.on("message")
    def told(message: str) -> None:
        event = json.loads(message)
        if event["type"] == "status":
            statuses.append(event)

    await peer.setLocalDescription(await peer.createOffer())
    async with httpx.AsyncClient(timeout=60) as http:
        offer = {"sdp": peer.localDescription.sdp, "start": {}}
        answer = await http.post(f"{address}/v1/live/offer", json=offer)
        answer.raise_for_status()
        body = answer.json()
        await peer.setRemoteDescription(RTCSessionDescription(body["sdp"], "answer"))
        next_interrupt = BARGE_IN_EVERY_SECONDS / 2
        while not microphone.is_over:
            await asyncio.sleep(0.02)
            place = microphone.place * RATE // SENT_RATE
            if is_time_for_barge_in(samples, place, next_interrupt):
                received.interrupts.append(time.monotonic())
                channel.send(json.dumps({"type": "interrupt"}))
                next_interrupt += BARGE_IN_EVERY_SECONDS
        await http.delete(f"{address}/v1/live/{body['id']}")
    for task in tasks:
        task.cancel()
    await peer.close()
    return report(received, microphone, samples, statuses)


def report(
    received: Received, microphone: Microphone, samples: np.ndarray, statuses: list[dict[str, Any]]
) -> dict[str, Any]:
    """All that is measured on one session."""
    times = np.array([at for at, _ in received.pictures])
    kept = [(at, picture) for at, picture in received.pictures if picture is not None]
    early = [each for each in kept if each[0] < microphone.spoken + 1.5]
    early_gaps = tracked_gaps([picture for _, picture in early])
    first = first_open(np.array([at for at, _ in early]), early_gaps, microphone.spoken)
    last = kept[-20 * PICTURES_PER_SECOND :]
    grid = np.arange(last[0][0], last[-1][0] - 0.5, 1 / PICTURES_PER_SECOND)
    order = np.array([at for at, _ in last])
    shown = [last[int(np.searchsorted(order, at, side="right")) - 1][1] for at in grid]
    heard = [each for each in received.sounds if each[0] >= grid[0]]
    got = joined(heard)[: len(grid) * RATE // PICTURES_PER_SECOND]
    near = int((heard[0][0] - microphone.begun) * RATE)
    offset, correlation = sync_milliseconds(shown, got, samples, near)
    spoken = [each for each in received.sounds if each[0] > microphone.spoken + 2.0]
    return {
        "transport": "webrtc",
        "seconds": round(float(times[-1] - times[0]), 1),
        "pictures": len(times),
        "pictures_per_second": round((len(times) - 1) / float(times[-1] - times[0]), 3),
        "longest_gap_between_pictures_seconds": round(float(np.diff(times).max()), 3),
        "first_picture_seconds": round(first, 3),
        "sound_round_trip_seconds": {
            "begin": round(round_trip(spoken[:300], microphone, samples), 3),
            "end": round(round_trip(heard, microphone, samples), 3),
        },
        "sync_milliseconds": offset,
        "sync_correlation": round(correlation, 3),
        "barge_in": [barge_in(received, at) for at in received.interrupts],
        "undrawn_frames": statuses[-1]["undrawn_frames"] if statuses else None,
        "skipped_seconds": statuses[-1]["skipped_seconds"] if statuses else None,
    }


def joined(sounds: Sequence[Sound]) -> np.ndarray:
    return np.concatenate([values for _, values in sounds])


def round_trip(sounds: Sequence[Sound], microphone: Microphone, samples: np.ndarray) -> float:
    """From sending a sample to the arrival of the packet that carries it back."""
    arrived = sounds[0][0] - microphone.begun
    place = sound_delay(joined(sounds[:300]), samples, int(arrived * RATE))
    return arrived - place / RATE


def barge_in(received: Received, at: float) -> dict[str, float]:
    """Delay of silence and of closed lips after an interruption."""
    heard = [each for each in received.sounds if 0.0 < each[0] - at < 1.2]
    quiet = (sent for sent, values in heard if np.abs(values).max() < SILENT)
    seen = [each for each in received.pictures if 0.0 < each[0] - at < 1.2]
    gaps = tracked_gaps([picture for _, picture in seen])
    closed = np.flatnonzero(gaps <= np.nanmin(gaps) + OPEN_GAP / 2)
    return {
        "silent_seconds": round(next(quiet, float("nan")) - at, 3),
        "closed_seconds": round(seen[closed[0]][0] - at, 3),
    }
