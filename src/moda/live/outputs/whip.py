"""Live picture and sound over WebRTC to a server that takes WHIP (RFC 9725)."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from urllib.error import HTTPError
from urllib.parse import urljoin, urlsplit
from urllib.request import Request, urlopen

from moda.errors import InputError, OutputError
from moda.live.head import LiveFrame
from moda.live.outputs.tracks import SAMPLE_RATE_HZ, LoopThread, OutgoingTrack, offer_frame
from moda.structures import FRAMES_PER_SECOND

ANSWER_SECONDS = 10.0
MAX_ANSWER_BYTES = 1 << 20


class WhipOutput:
    """One connection, with an event loop in a thread of its own.

    Sound is Opus, video VP8 or H.264. What the network is too slow for is left out.

    Args:
        address: of the endpoint, ``https://host/...``.
        token: what it wants as ``Authorization: Bearer``.

    Raises:
        InputError: The address is no web address.
        OutputError: The server refuses, or is not there.
    """

    def __init__(self, address: str, token: str | None = None) -> None:
        if urlsplit(address).scheme not in ("http", "https") or not urlsplit(address).hostname:
            raise InputError(f"{address!r} is no web address; give that of a WHIP endpoint")
        self._address, self._token = address, token
        self._resource: str | None = None
        self._video, self._audio = OutgoingTrack("video"), OutgoingTrack("audio")
        self.is_connected = threading.Event()
        """Set as soon as the server gets what is shown."""
        self._thread = LoopThread("moda-whip", self.close)
        self._loop = self._thread.loop
        future = asyncio.run_coroutine_threadsafe(self._connect(), self._loop)
        try:
            future.result(2 * ANSWER_SECONDS)
        except BaseException as error:
            self.close()
            if isinstance(error, OutputError):
                raise
            raise OutputError(f"{self._host} was not reached ({error})") from None

    @property
    def _host(self) -> str:
        return urlsplit(self._address).hostname or ""

    async def _connect(self) -> None:
        from aiortc import RTCPeerConnection, RTCSessionDescription

        self._peer = peer = RTCPeerConnection()

        @peer.on("connectionstatechange")
        def state_changed() -> None:
            if peer.connectionState == "connected":
                self.is_connected.set()
            elif peer.connectionState in ("failed", "closed"):
                self.is_connected.clear()

        for track in (self._video, self._audio):
            peer.addTransceiver(track, direction="sendonly")
        await peer.setLocalDescription(await peer.createOffer())
        answer = await asyncio.to_thread(self._offer, str(peer.localDescription.sdp))
        try:
            await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        except Exception as error:  # aiortc raises many kinds for what others send
            raise OutputError(f"the answer of {self._host} cannot be used: {error}") from None

    def _offer(self, sdp: str) -> str:
        request = self._request(self._address, "POST", sdp.encode())
        request.add_header("Content-Type", "application/sdp")
        try:
            with urlopen(request, timeout=ANSWER_SECONDS) as answer:  # noqa: S310
                place = urljoin(self._address, answer.headers.get("Location") or "")
                if urlsplit(place).netloc == urlsplit(self._address).netloc:
                    self._resource = place
                return str(answer.read(MAX_ANSWER_BYTES).decode("utf-8", "replace"))
        except HTTPError as error:
            raise OutputError(
                f"{self._host} refuses the stream with HTTP {error.code}; are address and token "
                "right?"
            ) from None
        except (OSError, ValueError) as error:
            raise OutputError(f"{self._host} was not reached ({error})") from None

    def _request(self, address: str, method: str, data: bytes | None = None) -> Request:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        return Request(address, data, headers, method=method)  # noqa: S310

    def show(self, frame: LiveFrame) -> None:
        """Send a frame whose sound has 48,000 samples a second; from any thread.

        Raises:
            InputError: The sound has another rate.
        """
        if len(frame.sound) != SAMPLE_RATE_HZ / FRAMES_PER_SECOND:
            raise InputError(
                f"WHIP takes sound at {SAMPLE_RATE_HZ} Hz; make the head with that sample_rate"
            )
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._send, frame)

    def _send(self, frame: LiveFrame) -> None:
        if not self.is_connected.is_set():
            return
        offer_frame(frame, self._video, self._audio)

    def close(self) -> None:
        """Tell the server, hang up and end the loop."""
        if self._loop.is_closed():
            return
        if self._resource is not None:
            with suppress(OSError, ValueError):
                request = self._request(self._resource, "DELETE")
                urlopen(request, timeout=ANSWER_SECONDS).close()  # noqa: S310
        self._thread.end(self._hang_up)

    async def _hang_up(self) -> None:
        peer = getattr(self, "_peer", None)
        if peer is not None:
            peer.remove_all_listeners()
            await peer.close()
