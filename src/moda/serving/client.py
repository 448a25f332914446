"""A client of ``moda serve``: videos on request, and live sessions over the WebSocket.

with VideoClient("http://127.0.0.1:8000") as client:
    client.make_video("portrait.jpg", "speech.wav", "talk.mp4")

async with LiveClient("http://127.0.0.1:8000") as session:
    await session.send_sound(pcm)
    async for message in session.messages(): ...
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from moda.errors import ModaError
from moda.files import check_outputs, whole_file
from moda.serving.live.protocol import (
    CLOSE_NORMAL,
    KEY_SUBPROTOCOL,
    SUBPROTOCOL,
    PackedFrame,
    Start,
    unpack_frame,
)

try:
    import httpx
    from websockets.asyncio.client import ClientConnection, connect
    from websockets.exceptions import ConnectionClosed, InvalidStatus
    from websockets.typing import Subprotocol
except ImportError as error:
    from moda.errors import MissingExtraError

    raise MissingExtraError(
        "the client needs httpx and websockets; install them with: pip install httpx websockets"
    ) from error

POLL_SECONDS = 0.5
MAX_MESSAGE_BYTES = 16 * 2**20

Progress = Callable[[float], None]
Event = dict[str, Any]


class ServerError(ModaError):
    """The server has refused, or something has gone wrong there."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status, or code with which the WebSocket was closed"""


class VideoClient:
    """Makes videos on a server.

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
        **options: str | float | None,
    ) -> str:
        """Ask for a video; its identifier. Raises :class:`ServerError` as all methods do.

        ``options`` are those of ``POST /v1/videos``: emotion, intensity, seed, size, full_frame,
        head_motion, expression, blink, blink_rate, gaze, lips_only, style.
        """
        form = {name: str(value) for name, value in options.items() if value is not None}
        if text is not None:
            form["text"] = text
        files = {"portrait": Path(portrait).read_bytes()}
        if speech is not None:
            files["speech"] = Path(speech).read_bytes()
        answer = self._ask("POST", "/v1/videos", data=form, files=files)
        return str(answer.json()["id"])

    def status(self, identifier: str) -> Event:
        """How far a video is: state, progress, place, error."""
        return self._ask("GET", f"/v1/videos/{identifier}").json()

    def wait(self, identifier: str, *, progress: Progress | None = None) -> None:
        """Return when a video is done. Raises :class:`ServerError` when it has failed."""
        while (status := self.status(identifier))["state"] in ("queued", "running"):
            if progress is not None:
                progress(status["progress"])
            time.sleep(POLL_SECONDS)
        if status["state"] == "failed":
            raise ServerError(status["error"])

    def fetch(self, identifier: str, path: str | Path) -> None:
        """Write a video that is done to a file, whole or not at all."""
        check_outputs([Path(path)])
        with (
            whole_file(path) as part,
            self._http.stream("GET", f"/v1/videos/{identifier}/result") as answer,
        ):
            if answer.is_error:
                answer.read()
            _require_success(answer)
            with part.open("wb") as file:
                for chunk in answer.iter_bytes():
                    file.write(chunk)

    def delete(self, identifier: str) -> None:
        """Stop the work on a video and remove it from the server."""
        self._ask("DELETE", f"/v1/videos/{identifier}")

    def make_video(
        self,
        portrait: str | Path,
        speech: str | Path,
        output: str | Path,
        *,
        progress: Progress | None = None,
        **options: str | float | None,
    ) -> None:
        """Ask for a video, wait for it, fetch it, and remove it from the server."""
        check_outputs([Path(output)], [Path(portrait), Path(speech)])
        identifier = self.request_video(portrait, speech, **options)  # type: ignore[arg-type]
        try:
            self.wait(identifier, progress=progress)
            self.fetch(identifier, output)
        finally:
            self.delete(identifier)

    def _ask(self, method: str, path: str, **content: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **content)
        except httpx.TransportError as error:
            raise ServerError(f"{self._http.base_url} cannot be reached: {error}") from error
        _require_success(answer)
        return answer


class LiveClient:
    """One live session.

    Args:
        address: such as ``http://127.0.0.1:8000``.
        start: how the session begins.
        api_key: sent as a subprotocol, never in the address.
    """

    def __init__(
        self, address: str, start: Start | None = None, *, api_key: str | None = None
    ) -> None:
        self._address = address.rstrip("/").replace("http", "ws", 1) + "/v1/live"
        self._start = start or Start()
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
        values = {name: value for name, value in asdict(self._start).items() if value is not None}
        try:
            await self._say({"type": "start", **values})
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

    async def interrupt(self) -> None:
        """Make it stop speaking at once; what is queued is dropped."""
        await self._say({"type": "interrupt"})

    async def express(self, emotion: str | None, intensity: float = 1.0) -> None:
        """Another emotion from now on."""
        await self._say({"type": "emotion", "emotion": emotion, "intensity": intensity})

    async def end(self) -> None:
        """Nothing more comes: the messages end when all has been spoken."""
        await self._say({"type": "end"})

    async def messages(self) -> AsyncIterator[PackedFrame | Event]:
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

    async def _receive(self) -> PackedFrame | Event:
        try:
            message = await self._socket.recv()
        except ConnectionClosed as closed:
            raise _closed(closed, "the connection broke") from None
        if isinstance(message, bytes):
            return unpack_frame(message)
        return json.loads(message)

    async def _say(self, message: Event) -> None:
        await self._send(json.dumps(message))

    async def _send(self, message: str | bytes) -> None:
        try:
            await self._socket.send(message)
        except ConnectionClosed as closed:
            raise _closed(closed) from None


def _closed(closed: ConnectionClosed, broke: str = "") -> ServerError:
    """Code and reason with which the server closed the WebSocket; ``broke`` where it has not."""
    code, reason = (1006, broke) if closed.rcvd is None else (closed.rcvd.code, closed.rcvd.reason)
    return ServerError(reason or f"closed with code {code}", code)


def _require_success(answer: httpx.Response) -> None:
    if answer.is_error:
        detail = _detail(answer.content) or f"status {answer.status_code}"
        raise ServerError(detail, answer.status_code)


def _detail(body: bytes | bytearray) -> str:
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, KeyError, TypeError):
        return ""
    return str(detail)
