"""A live session over WebRTC: an audio track comes in, audio and video go out.

Everything runs in the worker's process: encoding one session's video does not disturb another's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from moda.errors import InputError, MissingExtraError
from moda.serving.live.output import Session
from moda.serving.live.protocol import End, ProtocolError, Start, read_control

try:
    from aiortc import (
        MediaStreamTrack,
        RTCConfiguration,
        RTCIceServer,
        RTCPeerConnection,
        RTCSessionDescription,
    )
    from aiortc.mediastreams import MediaStreamError
except ImportError as error:
    raise MissingExtraError(
        "WebRTC needs aiortc; install it with: pip install 'moda-talking-head[serve,webrtc]'"
    ) from error

from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from moda.live.outputs.tracks import SAMPLE_RATE_HZ, LoopThread, OutgoingTrack, offer_frame

if TYPE_CHECKING:
    from moda.live import LiveFrame
    from moda.serving.settings import IceServer

ANSWER_SECONDS = 10.0
CONNECT_SECONDS = 20.0


class PeerOutput:
    """One peer connection with an event loop of its own; see
    :class:`moda.serving.live.output.Output`.

    Args:
        sdp: the client's offer.
        ice_servers: STUN and TURN servers.
        session: gets the sound and the messages of the client.

    Raises:
        InputError: the offer cannot be understood.
    """

    def __init__(self, sdp: str, ice_servers: tuple[IceServer, ...], session: Session) -> None:
        self._session = session
        self._is_connected = False
        self._channel: object | None = None
        self._video, self._audio = OutgoingTrack("video"), OutgoingTrack("audio")
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = LoopThread("moda-webrtc", self.close)
        self._loop = self._thread.loop
        future = asyncio.run_coroutine_threadsafe(self._connect(sdp, ice_servers), self._loop)
        try:
            self.answer = future.result(ANSWER_SECONDS)
        except TimeoutError:
            self.close()
            raise InputError("the WebRTC offer was not answered in time") from None
        except Exception as error:  # aiortc raises many kinds for what others send
            self.close()
            raise InputError(f"the WebRTC offer cannot be used: {error}") from None

    async def _connect(self, sdp: str, ice_servers: tuple[IceServer, ...]) -> str:
        configuration = RTCConfiguration([RTCIceServer(*server) for server in ice_servers])
        self._peer = peer = RTCPeerConnection(configuration)

        @peer.on("connectionstatechange")
        def state_changed() -> None:
            self._is_connected = peer.connectionState == "connected"
            if peer.connectionState in ("failed", "closed"):
                self._session.end("disconnected")

        @peer.on("track")
        def track_came(track: MediaStreamTrack) -> None:
            if track.kind == "audio":
                self._keep(self._listen(track))

        @peer.on("datachannel")
        def channel_came(channel: object) -> None:
            self._channel = channel
            channel.on("message", self._read)  # type: ignore[attr-defined]

        await peer.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        kinds = {transceiver.kind for transceiver in peer.getTransceivers()}
        if kinds != {"audio", "video"}:
            raise InputError("it must have audio both ways and video to be received")
        peer.addTrack(self._video)
        peer.addTrack(self._audio)
        await peer.setLocalDescription(await peer.createAnswer())
        self._keep(self._give_up())
        return str(peer.localDescription.sdp)

    def _keep(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _give_up(self) -> None:
        await asyncio.sleep(CONNECT_SECONDS)
        if not self._is_connected:
            self._session.end("not connected in time")

    async def _listen(self, track: MediaStreamTrack) -> None:
        """Pass the client's sound on."""
        resampler = AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE_HZ)
        with suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                assert isinstance(frame, AudioFrame)
                for part in resampler.resample(frame):
                    self._session.push(part.to_ndarray()[0].astype(np.float32))

    def _read(self, message: str | bytes) -> None:
        """A message of the client came over the data channel."""
        try:
            if isinstance(message, bytes):
                raise ProtocolError("the data channel takes text only")
            control = read_control(message)
            if isinstance(control, Start):
                raise ProtocolError("the session has been started already")
        except ProtocolError as error:
            self.tell({"type": "error", "message": str(error)})
            return
        self._session.control(control)
        if isinstance(control, End):
            self.tell({"type": "ending"})

    def tell(self, event: dict[str, object]) -> None:
        """Say something to the client, if it has opened a data channel; from any thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._tell, event)

    def _tell(self, event: dict[str, object]) -> None:
        channel = self._channel
        if channel is not None and channel.readyState == "open":  # type: ignore[attr-defined]
            channel.send(json.dumps(event))  # type: ignore[attr-defined]

    def show(self, frame: LiveFrame) -> None:
        """In the session's thread: hand a frame over to the loop."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._send, frame)

    def _send(self, frame: LiveFrame) -> None:
        if not self._is_connected:
            return
        offer_frame(frame, self._video, self._audio)

    def close(self) -> None:
        """Hang up and end the loop."""
        self._thread.end(self._hang_up)

    async def _hang_up(self) -> None:
        for task in self._tasks:
            task.cancel()
        peer = getattr(self, "_peer", None)
        if peer is not None:
            peer.remove_all_listeners()
            await peer.close()
