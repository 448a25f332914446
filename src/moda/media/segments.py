"""Short pieces of a video that play while the rest of it is still being made.

The pieces are those of HTTP Live Streaming (RFC 8216): MPEG-TS files that begin with a key frame,
and a playlist that names them as they become whole. They hold copies of the packets that go into
the video file, so nothing is encoded twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from moda.errors import OutputError

SEGMENT_SECONDS = 1
"""Shortest length of a piece, and the distance of key frames: how soon the first one plays."""
PLAYLIST_NAME = "index.m3u8"

if TYPE_CHECKING:
    Stream = VideoStream | AudioStream
    StreamPacket = Packet[VideoStream] | Packet[AudioStream]


class Segment(NamedTuple):
    """One piece: a whole MPEG-TS file."""

    path: Path
    seconds: float


class SegmentCopy:
    """A copy of a container's packets in pieces.

    Args:
        folder: Where the pieces are written; it exists and is the caller's to remove.
        container: The container that is copied, with all its streams added.

    Raises:
        OutputError: There is no such folder.
    """

    def __init__(self, folder: Path, container: OutputContainer) -> None:
        if not folder.is_dir():
            raise OutputError(f"folder {folder} of the pieces cannot be written; create it")
        container.start_encoding()  # only then do the streams know what their packets need
        self._container = av.open(
            str(folder / PLAYLIST_NAME),
            "w",
            format="hls",
            options={
                "hls_time": str(SEGMENT_SECONDS),
                "hls_playlist_type": "event",
                "hls_segment_filename": str(folder / "%05d.ts"),
                "hls_flags": "temp_file",  # the playlist is replaced, never half written
            },
        )
        originals: list[Stream] = [*container.streams.video, *container.streams.audio]
        self._streams: dict[int, Stream] = {}
        for stream in originals:
            self._streams[stream.index] = self._container.add_stream_from_template(stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._container.close()

    def mux(self, packets: Iterable[StreamPacket]) -> None:
        """Copy packets of the container; they stay usable."""
        for packet in packets:
            copy = Packet(bytes(packet))
            copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
            copy.time_base, copy.is_keyframe = packet.time_base, packet.is_keyframe
            copy.stream = self._streams[packet.stream.index]
            self._container.mux(copy)


def read_segments(folder: Path, start: int = 0) -> list[Segment]:
    """The whole pieces in a folder from number ``start`` on, in order; none before the first."""
    try:
        lines = (folder / PLAYLIST_NAME).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    segments = [
        Segment(folder / name, float(entry.removeprefix("#EXTINF:").rstrip(",")))
        for entry, name in pairwise(lines)
        if entry.startswith("#EXTINF:")
    ]
    return segments[start:]
