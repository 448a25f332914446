"""A face for a server of the OpenAI Realtime protocol, OpenAI's or any other that speaks it.

microphone --> hear --> WebSocket /v1/realtime --> speech of the answer --> LiveStream --> frames
                             `--> somebody speaks --> interruption, and what was heard of it

async with RealtimeFace("ws://127.0.0.1:8000/v1/realtime", stream) as face:
    await face.hear(pcm, sample_rate=48_000)
    async for frame in face:
        show(frame.picture), play(frame.sound)
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from moda.errors import MissingExtraError, ModaError
from moda.live.head import LiveFrame
from moda.live.stream import LiveStream, StreamedRateChange
from moda.media.waves import read_pcm, write_pcm

try:
    from websockets.asyncio.client import ClientConnection, connect
    from websockets.exceptions import ConnectionClosed, InvalidHandshake
except ImportError as missing:
    raise MissingExtraError(
        "a Realtime server is spoken to over websockets; install it with: pip install websockets"
    ) from missing

RATE_HZ = 24_000
"""Of the sound on the wire, both ways."""
SESSION = {
    "type": "realtime",
    "output_modalities": ["audio"],
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": RATE_HZ},
            "turn_detection": {"type": "server_vad"},
        },
        "output": {"format": {"type": "audio/pcm", "rate": RATE_HZ}},
    },
}
"""What the server is told at the beginning, unless something else is given."""
MAX_MESSAGE_BYTES = 16 * 2**20
DELTAS = ("response.output_audio.delta", "response.audio.delta")
"""A piece of the answer's sound, as it is called now and as it was called before."""
ENDS = ("response.output_audio.done", "response.audio.done")

Event = Mapping[str, Any]


@dataclass
class _Answer:
    """What the server says, an item of the conversation."""

    item_id: str
    response_id: str
    content_index: int
    begin_seconds: float
    """In all sound that was pushed."""
    seconds: float = 0.0


class RealtimeFace:
    """Shows a server's answers, and stops when somebody speaks.

    Iterating gives frames, 25 a second, until the server ends the connection. When the server
    hears somebody speak, the answer ends with the next frame, and the server is told how much of
    it was heard; so it is by :meth:`interrupt`.

    Args:
        url: such as ``wss://api.openai.com/v1/realtime?model=gpt-realtime``.
        stream: of the face, with the pace ``ahead``; is started and closed by this.
        api_key: sent as a header; None for servers that want none.
        session: of ``session.update``, instead of :data:`SESSION`.
        on_event: is given every event of the server, for transcripts, errors and tools.
    """

    def __init__(
        self,
        url: str,
        stream: LiveStream,
        *,
        api_key: str | None = None,
        session: Event | None = None,
        on_event: Callable[[Event], None] = lambda _: None,
    ) -> None:
        self._url, self._stream, self._on_event = url, stream, on_event
        self._headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._session = SESSION if session is None else session
        self._socket: ClientConnection
        self._listening: asyncio.Task[None]
        self._rate: StreamedRateChange | None = None
        self._answer: _Answer | None = None
        self._stopped_response = ""
        self._active_response = ""
        self._pushed_seconds = self._heard_seconds = 0.0

    async def __aenter__(self) -> Self:
        """Connect. Raises :class:`ModaError` where the server cannot be reached or refuses."""
        try:
            self._socket = await connect(
                self._url, additional_headers=self._headers, max_size=MAX_MESSAGE_BYTES
            )
        except (OSError, InvalidHandshake, TimeoutError) as error:
            raise ModaError(f"{self._url.split('?')[0]} cannot be reached: {error}") from error
        self._stream.start()
        self._listening = asyncio.create_task(self._listen())
        await self.send({"type": "session.update", "session": self._session})
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._socket.close()
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        await self._stream.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LiveFrame:
        """Raises :class:`ModaError` when the connection breaks, or speech was not taken."""
        try:
            frame = await anext(self._stream)
        except StopAsyncIteration:
            if self._listening.done() and not self._listening.cancelled():
                self._listening.result()
            raise
        self._heard_seconds = frame.heard_seconds
        if rejected := self._stream.take_rejected():
            raise ModaError(f"the answer was not taken: {rejected}")
        return frame

    async def hear(self, pcm: bytes, sample_rate: int, num_channels: int = 1) -> None:
        """Send the sound of whoever talks to the face, 16-bit PCM of any rate, as it comes."""
        if self._rate is None or self._rate.source_hz != sample_rate:
            self._rate = StreamedRateChange(sample_rate, RATE_HZ)
        samples = self._rate.push(read_pcm(pcm, num_channels))
        sound = b64encode(write_pcm(samples)).decode()
        await self.send({"type": "input_audio_buffer.append", "audio": sound})

    async def ask(self, text: str) -> None:
        """Say something to the server in writing, and have it answered."""
        content = [{"type": "input_text", "text": text}]
        item = {"type": "message", "role": "user", "content": content}
        await self.send({"type": "conversation.item.create", "item": item})
        await self.send({"type": "response.create"})

    async def interrupt(self) -> None:
        """Stop the answer at once."""
        if self._active_response:
            await self.send({"type": "response.cancel"})
        await self._stop_answer()

    async def send(self, event: Event) -> None:
        """Send any event of the protocol. Raises :class:`ModaError` when the server has gone."""
        try:
            await self._socket.send(json.dumps(event))
        except ConnectionClosed as closed:
            raise ModaError(f"the Realtime server has gone: {closed}") from closed

    async def _listen(self) -> None:
        try:
            async for message in self._socket:
                event = json.loads(message)
                await self._take(event)
                self._on_event(event)
        except ConnectionClosed as closed:
            raise ModaError(f"the Realtime server has gone: {closed}") from closed
        finally:
            await self._stream.close()

    async def _take(self, event: Event) -> None:
        kind = event["type"]
        if kind in DELTAS:
            self._speak(event)
        elif kind in ENDS:
            self._stream.mark(event["item_id"])
        elif kind == "response.created":
            self._active_response = event["response"]["id"]
        elif kind == "response.done":
            self._active_response = ""
        elif kind == "input_audio_buffer.speech_started":
            await self._stop_answer()

    def _speak(self, event: Event) -> None:
        if event["response_id"] == self._stopped_response:
            return
        answer = self._answer
        if answer is None or answer.item_id != event["item_id"]:
            answer = self._answer = _Answer(
                item_id=event["item_id"],
                response_id=event["response_id"],
                content_index=event["content_index"],
                begin_seconds=self._pushed_seconds,
            )
        samples = read_pcm(b64decode(event["delta"]))
        self._stream.push(samples, RATE_HZ)
        answer.seconds += len(samples) / RATE_HZ
        self._pushed_seconds += len(samples) / RATE_HZ

    async def _stop_answer(self) -> None:
        self._stopped_response = self._active_response
        answer, self._answer = self._answer, None
        if answer is None:
            return
        heard = max(0.0, self._heard_seconds - answer.begin_seconds)
        if heard >= answer.seconds and answer.response_id != self._active_response:
            return  # it has been heard to its end
        self._stopped_response = answer.response_id
        self._stream.interrupt()
        await self.send(
            {
                "type": "conversation.item.truncate",
                "item_id": answer.item_id,
                "content_index": answer.content_index,
                "audio_end_ms": int(1000 * min(heard, answer.seconds)),
            }
        )
