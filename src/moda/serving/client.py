"""A client of ``moda serve``: videos on request, and live sessions over the WebSocket.

with VideoClient("http://127.0.0.1:8000") as client:
    client.make_video("portrait.jpg", "speech.wav", "talk.mp4")

async with LiveClient("http://127.0.0.1:8000") as session:
    await session.say("Hello!")
    async for message in session.messages(): ...

This file needs nothing of MoDA: the distribution moda-client consists of it alone.
"""

from __future__ import annotations

import json
import struct
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

try:
    import httpx
    from websockets.asyncio.client import ClientConnection, connect
    from websockets.exceptions import ConnectionClosed, InvalidStatus
    from websockets.typing import Subprotocol
except ImportError as error:
    raise ImportError(
        "the client needs httpx and websockets; install them with: pip install httpx websockets"
    ) from error

SUBPROTOCOL, KEY_SUBPROTOCOL = "moda.v1", "moda.key."
FRAME_HEADER = struct.Struct("<4sIIII")
CLOSE_NORMAL = 1000
MAX_MESSAGE_BYTES = 16 * 2**20
TRIES, TRY_AGAIN_SECONDS = 4, 1.0
"""Of a request whose answer has been lost."""

Progress = Callable[[float], None]
Event = dict[str, Any]


class ServerError(Exception):
    """The server has refused, or something has gone wrong there."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status, or code with which the WebSocket was closed"""


class Frame(NamedTuple):
    """40 ms of a live session."""

    number: int
    is_speaking: bool
    jpeg: bytes
    """Empty where the picture stays as it is."""
    sound: bytes
    """16-bit little-endian mono PCM"""


class VideoClient:
    """Makes videos on a server. All methods raise :class:`ServerError`.

    Args:
        address: such as ``http://127.0.0.1:8000``.
        api_key: sent as a header with every request.
    """

    def __init__(self, address: str, *, api_key: str | None = None) -> None:
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._http = httpx.Client(base_url=address, headers=headers, timeout=60.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.close()

    def request_video(
        self,
        portrait: str | Path,
        speech: str | Path | None = None,
        *,
        text: str | None = None,
        idempotency_key: str | None = None,
        **options: str | float | None,
    ) -> str:
        """Ask for a video; its identifier.

        Args:
            portrait: A picture.
            speech: A recording.
            text: In place of a recording.
            idempotency_key: Whoever asks again with the same key gets the same video. Without one,
                each call has its own, so that an answer that is lost costs nothing.
            options: Those of ``POST /v1/videos``, such as emotion, seed, size, webhook.
        """
        form = {name: str(value) for name, value in options.items() if value is not None}
        if text is not None:
            form["text"] = text
        files = {"portrait": Path(portrait).read_bytes()}
        if speech is not None:
            files["speech"] = Path(speech).read_bytes()
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        for left in reversed(range(TRIES)):
            try:
                answer = self._ask("POST", "/v1/videos", data=form, files=files, headers=headers)
                return str(answer.json()["id"])
            except ServerError as error:
                if error.status not in (None, 409) or not left:
                    raise
                time.sleep(TRY_AGAIN_SECONDS)
        raise AssertionError

    def videos(self) -> list[Event]:
        """The statuses of all videos of the key, the newest first."""
        return list(self._ask("GET", "/v1/videos").json()["videos"])

    def status(self, identifier: str) -> Event:
        """How far a video is: state, progress, place, error."""
        return self._ask("GET", f"/v1/videos/{identifier}").json()

    def watch(self, identifier: str) -> Iterator[Event]:
        """The status whenever it changes, until the video is done or has failed."""
        state = ""
        while state not in ("done", "failed"):  # a server that ends closes its streams
            try:
                with self._http.stream("GET", f"/v1/videos/{identifier}/events") as answer:
                    _require_success(answer)
                    for line in answer.iter_lines():
                        if line.startswith("data: "):
                            status = json.loads(line.removeprefix("data: "))
                            state = status["state"]
                            yield status
            except httpx.TransportError as error:
                raise self._unreachable(error) from error

    def wait(self, identifier: str, *, progress: Progress | None = None) -> None:
        """Return when a video is done; one that has failed is an error."""
        for status in self.watch(identifier):
            if status["state"] == "failed":
                raise ServerError(status["error"])
            if progress is not None:
                progress(status["progress"])

    def fetch(self, identifier: str, path: str | Path) -> None:
        """Write a video that is done to a file, whole or not at all."""
        path = Path(path)
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
        try:
            with self._http.stream("GET", f"/v1/videos/{identifier}/result") as answer:
                _require_success(answer)
                with part.open("xb") as file:
                    for chunk in answer.iter_bytes():
                        file.write(chunk)
            part.replace(path)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        finally:
            part.unlink(missing_ok=True)

    def delete(self, identifier: str) -> None:
        """Stop the work on a video and remove it from the server."""
        self._ask("DELETE", f"/v1/videos/{identifier}")

    def make_video(
        self,
        portrait: str | Path,
        speech: str | Path | None,
        output: str | Path,
        *,
        progress: Progress | None = None,
        **options: str | float | None,
    ) -> None:
        """Ask for a video, wait for it, fetch it, and remove it from the server."""
        if not Path(output).absolute().parent.is_dir():
            raise FileNotFoundError(f"folder {Path(output).parent} does not exist; create it")
        identifier = self.request_video(portrait, speech, **options)  # type: ignore[arg-type]
        try:
            self.wait(identifier, progress=progress)
            self.fetch(identifier, output)
        finally:
            self.delete(identifier)

    def bring_portrait(self, portrait: str | Path) -> str:
        """Bring a portrait for live sessions; its name for :class:`LiveClient`."""
        files = {"portrait": Path(portrait).read_bytes()}
        return str(self._ask("POST", "/v1/live/portraits", files=files).json()["portrait"])

    def _ask(self, method: str, path: str, **content: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **content)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        _require_success(answer)
        return answer

    def _unreachable(self, error: httpx.TransportError) -> ServerError:
        return ServerError(f"{self._http.base_url} cannot be reached: {error}")


class LiveClient:
    """One live session.

    Args:
        address: such as ``http://127.0.0.1:8000``.
        start: how it begins: portrait, sample_rate, pace, emotion, intensity, seed.
        api_key: sent as a subprotocol, never in the address.
    """

    def __init__(
        self, address: str, start: Mapping[str, Any] | None = None, *, api_key: str | None = None
    ) -> None:
        self._address = address.rstrip("/").replace("http", "ws", 1) + "/v1/live"
        self._start = dict(start or {})
        key = [] if api_key is None else [f"{KEY_SUBPROTOCOL}{api_key}"]
        self._subprotocols = [Subprotocol(name) for name in (SUBPROTOCOL, *key)]
        self._socket: ClientConnection
        self.started: Event = {}
        """What the server said at the beginning: width, height, sample_rate, look_ahead_seconds."""

    async def __aenter__(self) -> Self:
        """Begin; waits in line if the server says so. Raises :class:`ServerError`."""
        try:
            self._socket = await connect(
                self._address,
                subprotocols=self._subprotocols,
                max_size=MAX_MESSAGE_BYTES,
                compression=None,
            )
        except InvalidStatus as error:
            status, body = error.response.status_code, error.response.body or b""
            raise ServerError(_detail(body) or f"status {status}", status) from None
        except OSError as error:
            raise ServerError(f"{self._address} cannot be reached: {error}") from error
        try:
            await self._tell({"type": "start", **self._start})
            while not self.started:
                message = await self._receive()
                if isinstance(message, dict) and message["type"] == "started":
                    self.started = message
        except BaseException:
            await self._socket.close()
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._socket.close()

    async def send_sound(self, pcm: bytes) -> None:
        """Send 16-bit little-endian mono PCM of any length up to 2 s at 48 kHz."""
        await self._send(pcm)

    async def send_picture(self, data: bytes) -> None:
        """Send a JPEG or PNG of a camera, to a session that was started with ``follow``."""
        await self._send(data)

    async def say(self, text: str, **options: str | float) -> None:
        """Have the server speak a text; options are language, voice and rate."""
        await self._tell({"type": "text", "text": text, **options})

    async def interrupt(self) -> None:
        """Make it stop speaking at once; what is queued is dropped."""
        await self._tell({"type": "interrupt"})

    async def express(self, emotion: str | None, intensity: float = 1.0) -> None:
        """Another emotion from now on."""
        await self._tell({"type": "emotion", "emotion": emotion, "intensity": intensity})

    async def end(self) -> None:
        """Nothing more comes: the messages end when all has been spoken."""
        await self._tell({"type": "end"})

    async def messages(self) -> AsyncIterator[Frame | Event]:
        """Frames and events as they come, until the session has ended.

        Raises:
            ServerError: the server has closed it for another reason than its end.
        """
        while True:
            try:
                yield await self._receive()
            except ServerError as error:
                if error.status == CLOSE_NORMAL:
                    return
                raise

    async def _receive(self) -> Frame | Event:
        try:
            message = await self._socket.recv()
        except ConnectionClosed as closed:
            raise _closed(closed, "the connection broke") from None
        if isinstance(message, bytes):
            return read_frame(message)
        return json.loads(message)

    async def _tell(self, message: Event) -> None:
        await self._send(json.dumps(message))

    async def _send(self, message: str | bytes) -> None:
        try:
            await self._socket.send(message)
        except ConnectionClosed as closed:
            raise _closed(closed) from None


def read_frame(message: bytes) -> Frame:
    """A binary message of the server. Raises :class:`ServerError`."""
    if len(message) < FRAME_HEADER.size:
        raise ServerError(f"a frame has {len(message)} bytes, less than its header")
    magic, number, flags, jpeg, sound = FRAME_HEADER.unpack_from(message)
    if magic != b"MODA" or len(message) != FRAME_HEADER.size + jpeg + sound:
        raise ServerError("a binary message is no frame")
    body = message[FRAME_HEADER.size :]
    return Frame(number, bool(flags & 1), body[:jpeg], body[jpeg:])


def _closed(closed: ConnectionClosed, broke: str = "") -> ServerError:
    """Code and reason with which the server closed the WebSocket; ``broke`` where it has not."""
    code, reason = (1006, broke) if closed.rcvd is None else (closed.rcvd.code, closed.rcvd.reason)
    return ServerError(reason or f"closed with code {code}", code)


def _require_success(answer: httpx.Response) -> None:
    if answer.is_error:
        answer.read()
        detail = _detail(answer.content) or f"status {answer.status_code}"
        raise ServerError(detail, answer.status_code)


def _detail(body: bytes | bytearray) -> str:
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, KeyError, TypeError):
        return ""
    return str(detail)
