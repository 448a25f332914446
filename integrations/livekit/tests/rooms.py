"""Rooms without a server: participants in one process, with real sources and runners."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

from livekit import rtc


class Publication:
    """A track that has been published, and is watched from the beginning."""

    def __init__(self, kind: Any) -> None:
        self.kind, self.sid = kind, "TR_1"

    async def wait_for_subscription(self) -> None:
        return None


class ByteStream:
    """One byte stream, its writing and its reading end."""

    def __init__(self, attributes: dict[str, str]) -> None:
        self.info = SimpleNamespace(attributes=attributes, stream_id="1")
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def write(self, data: bytes) -> None:
        await self._chunks.put(data)

    async def aclose(self) -> None:
        await self._chunks.put(None)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._chunks.get()
        if chunk is None:
            raise StopAsyncIteration
        return chunk


class Participant:
    """The local participant of a room."""

    def __init__(self, room: FakeRoom, identity: str) -> None:
        self._room, self.identity = room, identity
        self.kind = rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
        self.state = rtc.ParticipantState.PARTICIPANT_STATE_ACTIVE
        self.attributes: dict[str, str] = {}
        self.track_publications: dict[str, Publication] = {}
        self._rpc_handlers: dict[str, Callable[[Any], Any]] = {}

    async def publish_track(self, track: Any, options: Any = None) -> Publication:
        publication = Publication(track.kind)
        self.track_publications[f"TR_{len(self.track_publications)}"] = publication
        self._room.emit("local_track_published", publication, track)
        for room in self._room.others():
            room.emit("track_published", publication, self)
        return publication

    def register_rpc_method(self, name: str, handler: Callable[[Any], Any]) -> None:
        self._rpc_handlers[name] = handler

    async def perform_rpc(self, *, destination_identity: str, method: str, payload: str) -> str:
        other = self._room.network[destination_identity]
        data = SimpleNamespace(caller_identity=self.identity, payload=payload)
        answer = other.local_participant._rpc_handlers[method](data)
        return await answer if isinstance(answer, Awaitable) else answer

    async def stream_bytes(
        self, name: str, *, topic: str, destination_identities: list[str], attributes: Any
    ) -> ByteStream:
        stream = ByteStream(attributes)
        for identity in destination_identities:
            self._room.network[identity].byte_handlers[topic](stream, self.identity)
        return stream

    async def set_attributes(self, attributes: dict[str, str]) -> None:
        self.attributes |= attributes


class FakeRoom(rtc.EventEmitter[Any]):
    """A room that is connected to the rooms of the same network."""

    def __init__(self, network: dict[str, FakeRoom], identity: str) -> None:
        super().__init__()
        self.network, self.name = network, "room"
        self.byte_handlers: dict[str, Callable[[Any, str], None]] = {}
        self.local_participant = Participant(self, identity)
        self.token = ""

    @property
    def remote_participants(self) -> dict[str, Participant]:
        return {room.local_participant.identity: room.local_participant for room in self.others()}

    def others(self) -> list[FakeRoom]:
        return [room for room in self.network.values() if room is not self]

    def isconnected(self) -> bool:
        return self.local_participant.identity in self.network

    def join(self) -> FakeRoom:
        self.network[self.local_participant.identity] = self
        for room in self.others():
            room.emit("participant_active", self.local_participant)
        return self

    async def connect(self, url: str, token: str) -> None:
        self.token = token
        self.join()

    async def disconnect(self) -> None:
        if self.network.pop(self.local_participant.identity, None) is not None:
            for room in self.network.values():
                room.emit("participant_disconnected", self.local_participant)

    def register_byte_stream_handler(self, topic: str, handler: Any) -> None:
        self.byte_handlers[topic] = handler


class Seen:
    """What the real sources of a runner are given, with the times."""

    def __init__(self) -> None:
        self.pictures: list[tuple[float, bytes]] = []
        self.sound: list[tuple[float, bytes, float]] = []

    def watch(self, runner: Any) -> Seen:
        video, audio = runner._video_source, runner._audio_source
        show, play = video.capture_frame, audio.capture_frame

        def capture_picture(frame: rtc.VideoFrame, **options: Any) -> None:
            self.pictures.append((time.monotonic(), bytes(frame.data)))
            show(frame, **options)

        async def capture_sound(frame: rtc.AudioFrame) -> None:
            heard_at = time.monotonic() + audio.queued_duration
            self.sound.append((heard_at, bytes(frame.data), frame.duration))
            await play(frame)

        video.capture_frame, audio.capture_frame = capture_picture, capture_sound
        return self


def read_claims(token: str) -> dict[str, Any]:
    """What a token says."""
    from base64 import urlsafe_b64decode

    body = token.split(".")[1]
    return dict(json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4))))
