"""Opening sound and video files that nobody vouches for: allow-lists, limits, clear errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, TypeVar

import av
import av.container
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from moda.errors import MediaError

MAX_SECONDS = 4 * 3600
MAX_FILE_BYTES = 64 * 2**30
SLACK_SECONDS = 0.1
"""Encoders fill up their last packet."""
MIN_SIDE_PX = 64

DEMUXERS = (
    "wav", "w64", "aiff", "au", "caf", "flac", "mp3", "aac", "ac3", "eac3", "amr", "ogg", "asf",
    "mov", "mp4", "m4a", "3gp", "matroska", "webm", "avi", "flv", "mpeg", "mpegts",
)  # fmt: skip
"""Containers that hold the media themselves; playlists, which name other files, are left out."""

PICTURE_BEGINNINGS = (
    b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*",
)  # fmt: skip
MAX_DAMAGED_SHARE = 0.1
"""Packets that a decoder may refuse before the file counts as damaged."""

AnyFrame = TypeVar("AnyFrame", AudioFrame, VideoFrame)


def check_file(path: Path, kind: str, max_bytes: int) -> Path:
    """Refuse what is no plain file with something in it.

    Raises:
        MediaError: The path is missing, a folder, unreadable, empty or larger than ``max_bytes``.
    """
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise MediaError(f"{path} is a folder; give a {kind} file")
        if not path.is_file():
            raise MediaError(f"{path} is not a plain file; save it as a {kind} file first")
        with path.open("rb"):
            pass
    except FileNotFoundError:
        if str(path) == "-":
            raise MediaError(
                f"standard input (-) is read for --text-file alone; give a {kind} file"
            ) from None
        hint = "; only local files are read" if "://" in str(path) or ":/" in str(path) else ""
        raise MediaError(f"{path} does not exist; give a {kind} file{hint}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise MediaError(f"{path} cannot be opened ({reason}); give a {kind} file") from None
    if size == 0:
        raise MediaError(f"{path} is empty (0 bytes); give a {kind} file with content")
    if size > max_bytes:
        raise MediaError(
            f"{path} has {size / 2**20:.0f} MiB, more than the limit of {max_bytes / 2**20:.0f} "
            f"MiB for a {kind}; make it smaller"
        )
    return path


def check_pixels(path: Path, size: tuple[int, int], max_pixels: int, kind: str) -> None:
    """Raise :class:`MediaError` for a size (width, height) outside the limits."""
    width, height = size
    if width * height > max_pixels:
        raise MediaError(
            f"{path} has {width} x {height} pixels, more than the limit of "
            f"{max_pixels / 1e6:.0f} million; make it smaller"
        )
    if min(size) < MIN_SIDE_PX:
        raise MediaError(
            f"{path} has {width} x {height} pixels, a side is below the limit of "
            f"{MIN_SIDE_PX}; use a larger {kind}"
        )


@contextmanager
def open_media(path: Path, kind: str) -> Iterator[av.container.InputContainer]:
    """Open a local sound or video file for reading.

    Raises:
        MediaError: As :func:`check_file`, or no container of :data:`DEMUXERS` fits.
    """
    check_file(path, kind, MAX_FILE_BYTES)
    options = {"protocol_whitelist": "file", "format_whitelist": ",".join(DEMUXERS)}
    try:
        # Absolute, so that no part of a file name is taken for a protocol.
        container = av.open(str(path.absolute()), "r", options=options, metadata_errors="replace")
    except (FFmpegError, ValueError) as error:
        raise unreadable(path, kind, error) from None
    try:
        yield container
    finally:
        container.close()


def kind_of_media(path: Path) -> Literal["sound", "video"] | None:
    """What a file holds that was taken for something else; None for neither, or if unreadable."""
    try:
        with open_media(path, "video") as container:
            if pictures_of(container) is not None:
                return "video"
            return "sound" if container.streams.audio else None
    except MediaError:
        return None


def require_decoder(stream: Stream, path: Path, kind: str) -> None:
    """Raise :class:`MediaError` for a track in a format that nothing here decodes."""
    if stream.codec_context is None:
        raise unreadable(path, kind, ValueError("its codec is unknown here"))


def unreadable(path: Path, kind: str, error: Exception) -> MediaError:
    """The error for content that is not what it says it is."""
    if is_picture(path):
        return taken_for(path, kind)
    reason = getattr(error, "strerror", None) or str(error)
    hint = "wav, flac, mp3, m4a or ogg" if kind == "sound" else "mp4, mov, mkv or webm"
    return MediaError(f"{path} cannot be read as {kind} ({reason}); use {hint}")


def taken_for(path: Path, kind: str) -> MediaError:
    """The error for a picture in place of sound or video."""
    other = "speech" if kind == "sound" else kind
    return MediaError(
        f"{path} is a picture, not {kind}; the portrait comes first, then the {other}"
    )


def is_picture(path: Path) -> bool:
    """Whether a file begins like a picture."""
    with path.open("rb") as file:
        beginning = file.read(12)
    if beginning[:4] == b"RIFF":
        return beginning[8:] == b"WEBP"
    if beginning[4:8] == b"ftyp":
        return beginning[8:] in (b"avif", b"avis", b"heic", b"heix", b"mif1")
    return beginning.startswith(PICTURE_BEGINNINGS)


def decode(
    packets: Iterator[Packet[Any]],
    decode_packet: Callable[[Packet[Any]], list[AnyFrame]],
    path: Path,
    kind: str,
) -> Iterator[AnyFrame]:
    """Decode packet by packet; a few damaged ones are left out, as players do.

    Raises:
        MediaError: More than a tenth of the packets are damaged, or the container breaks off.
    """
    seen = damaged = 0
    try:
        for packet in packets:
            seen += 1
            try:
                yield from decode_packet(packet)
            except FFmpegError as error:
                damaged += 1
                if damaged > 3 + MAX_DAMAGED_SHARE * max(seen, 100):
                    raise unreadable(path, kind, error) from None
    except FFmpegError as error:
        raise unreadable(path, kind, error) from None
    if damaged and damaged > MAX_DAMAGED_SHARE * seen:
        raise MediaError(
            f"{path} is damaged: {damaged} of {seen} packets of its {kind} cannot be decoded; "
            "save it again"
        )


def stream_seconds(
    container: av.container.InputContainer, stream: AudioStream | VideoStream
) -> float | None:
    """Duration that the header claims, None when it says nothing."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None:
        return container.duration / 1_000_000
    return None


def stream_start(stream: AudioStream | VideoStream) -> Fraction:
    """Time stamp of the first sample or picture, in seconds."""
    if stream.start_time is None or stream.time_base is None:
        return Fraction(0)
    return stream.start_time * stream.time_base


def pictures_of(container: av.container.InputContainer) -> VideoStream | None:
    """The video track of a file, its default one of several; covers of sound files are none."""
    cover = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    return max(streams, key=_is_default, default=None)


def sound_of(container: av.container.InputContainer) -> AudioStream | None:
    """The sound track of a file, its default one of several; None if it has none."""
    return max(container.streams.audio, key=_is_default, default=None)


def _is_default(stream: AudioStream | VideoStream) -> bool:
    return bool(stream.disposition & Disposition.default)


def time_zero(container: av.container.InputContainer) -> Fraction:
    """Time stamp in seconds that is 0 for pictures and sound: where the earlier of them begins."""
    tracks = (pictures_of(container), sound_of(container))
    return min((stream_start(track) for track in tracks if track), default=Fraction(0))


def check_seconds(path: Path, seconds: float, limit: float = MAX_SECONDS) -> None:
    """Raise MediaError when a duration is over a limit."""
    if seconds > limit + SLACK_SECONDS:
        raise MediaError(
            f"{path} lasts {_spoken(seconds, '.1f')}, more than the limit of "
            f"{_spoken(limit, 'g')}; cut it into parts"
        )


def _spoken(seconds: float, digits: str) -> str:
    in_hours = seconds >= 3600
    return f"{seconds / 3600 if in_hours else seconds:{digits}} {'h' if in_hours else 's'}"
