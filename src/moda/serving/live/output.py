"""Both sides of a live session: where its frames go, and what a client does with it."""

from __future__ import annotations

import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Protocol

from moda.live import LiveFrame
from moda.live.outputs import LiveMouth
from moda.media import jpeg_bytes, png_bytes, webp_bytes
from moda.serving.live.protocol import Control, PackedFrame, PictureKind, pack_frame
from moda.structures import Floats, Picture


class Parent:
    """The pipe to the server; threads may share it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, word: str, *values: object) -> None:
        """Tell the server, unless it is gone; then the worker is about to end as well."""
        with self._lock, suppress(OSError):
            self._connection.send((word, *values))


class PipeOutput:
    """Frames as messages, through the server, to a WebSocket.

    Args:
        parent: Takes the messages.
        quality: Of JPEG and WebP files.
        kind: Of pictures.
        mouth: Tells in events what the face does.
    """

    def __init__(
        self, parent: Parent, quality: int, kind: PictureKind, mouth: LiveMouth | None = None
    ) -> None:
        self._parent, self._quality, self._kind, self._mouth = parent, quality, kind, mouth

    def show(self, frame: LiveFrame) -> None:
        """Pack and send a frame, behind what the face does in it."""
        if self._mouth is not None:
            self.tell(self._mouth.event(frame))
        self.send(frame.number, frame.picture, frame.pcm(), is_speaking=frame.is_speaking)

    def send(
        self, number: int, picture: Picture | None, pcm: bytes = b"", *, is_speaking: bool = False
    ) -> None:
        """Pack and send a picture, if there is one, and sound."""
        packed = PackedFrame(number, is_speaking, self._file(picture), pcm)
        self._parent.send("frame", pack_frame(packed))

    def _file(self, picture: Picture | None) -> bytes:
        if picture is None:
            return b""
        if self._kind == "png":
            return png_bytes(picture)
        write = webp_bytes if self._kind == "webp" else jpeg_bytes
        return write(picture, self._quality)

    def tell(self, event: dict[str, Any]) -> None:
        """Send an event."""
        self._parent.send("event", event)

    def close(self) -> None:
        """Nothing is held."""


class Output(Protocol):
    """Where the frames of a session go."""

    def show(self, frame: LiveFrame) -> None: ...

    def tell(self, event: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


class Session(Protocol):
    """What a client's sound and messages reach."""

    def push(self, samples: Floats) -> None: ...

    def control(self, message: Control) -> None: ...

    def end(self, reason: str) -> None: ...
