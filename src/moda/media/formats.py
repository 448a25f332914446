"""The kinds of video files that are written, and how their pictures are encoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import av.container
import av.filter
from av.packet import Packet
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from moda.errors import InputError
from moda.media.planes import PlanarPicture
from moda.structures import Part

BT709 = 1


class OutputFormat(NamedTuple):
    """How one kind of file holds pictures, sound and subtitles."""

    container: str
    codec: str
    pixels: str
    options: Mapping[str, str]
    sound_codec: str | None
    subtitle_codec: str | None
    muxer_options: Mapping[str, str]


# One thread, because the pictures are drawn on the other cores, and the bytes depend on the number.
# They do on the processor as well, unless forbidden; with AVX-512 even the same frames come
# out differently each time. Coarse motion of parts of a pixel (subme) is enough: little moves.
_X264 = {
    "crf": "18", "preset": "veryfast", "threads": "1", "x264-params": "cpu-independent=1:subme=1",
}  # fmt: skip
_VP9 = {
    "crf": "24", "b": "0", "deadline": "good", "cpu-used": "5", "threads": "4", "auto-alt-ref": "0",
}  # fmt: skip
"""Without alternate reference frames, which lose the transparency."""
# bitexact: no version, no random identifier; use_metadata_tags: keys of our own are kept;
# faststart: plays before it is loaded whole.
_MP4 = {"fflags": "+bitexact", "movflags": "+faststart+use_metadata_tags"}
_MATROSKA = {"fflags": "+bitexact"}

FORMATS: Mapping[str, OutputFormat] = {
    ".mp4": OutputFormat("mp4", "libx264", "yuv420p", _X264, "aac", "mov_text", _MP4),
    ".mov": OutputFormat("mov", "libx264", "yuv420p", _X264, "aac", "mov_text", _MP4),
    ".mkv": OutputFormat("matroska", "libx264", "yuv420p", _X264, "aac", "subrip", _MATROSKA),
    ".webm": OutputFormat("webm", "libvpx-vp9", "yuv420p", _VP9, "libopus", "webvtt", _MATROSKA),
    ".gif": OutputFormat("gif", "gif", "pal8", {}, None, None, {"fflags": "+bitexact"}),
}
"""By the ending of the name."""

TRANSPARENT_FORMATS: Mapping[str, OutputFormat] = {
    ".webm": FORMATS[".webm"]._replace(pixels="yuva420p"),
    ".mov": FORMATS[".mov"]._replace(
        codec="prores_ks", pixels="yuva444p10le", options={"profile": "4444", "threads": "4"}
    ),
    ".gif": FORMATS[".gif"],
}
"""VP9 with transparency for browsers, ProRes 4444 for editing, one bit of it in a GIF."""

MAX_GIF_RATE = 50
"""Pictures a second: programs show shorter delays than two hundredths of a second as a tenth."""


def check_rate(path: Path, frames_per_second: float) -> None:
    """Raise :class:`InputError` for a rate that the format of a file cannot hold."""
    if path.suffix.lower() == ".gif" and frames_per_second > MAX_GIF_RATE:
        raise InputError(
            f"a GIF holds at most {MAX_GIF_RATE} pictures a second, not {frames_per_second:g}; "
            f"choose --fps {MAX_GIF_RATE}, or another format"
        )


GIF_FILTERS = (
    ("split", "split", ""),
    ("palettegen", "palettegen", "stats_mode=single:reserve_transparent=1"),
    ("paletteuse", "paletteuse", "new=1:dither=bayer:bayer_scale=4:alpha_threshold=128"),
)
"""Every picture has colours of its own, so that none has to wait for the last one."""


class PictureEncoder:
    """Encodes pictures of one size and rate, RGB or RGBA, into a container.

    Where there is a moving ``part``, all pictures but the first are of that part alone, see
    :class:`moda.media.planes.PlanarPicture`. ``keyframe_distance`` is in pictures; None leaves it
    to the codec.
    """

    def __init__(
        self,
        container: av.container.OutputContainer,
        output: OutputFormat,
        size: tuple[int, int],
        rate: Fraction,
        keyframe_distance: int | None = None,
        part: Part | None = None,
    ) -> None:
        self._output = output
        self._size = size
        self._rate = rate
        self._palette: av.filter.Graph | None = None
        self._planar = PlanarPicture(output.pixels, size, part)
        options = dict(output.options)
        if keyframe_distance is not None:
            options["g"] = str(keyframe_distance)
        stream = container.add_stream(output.codec, rate=rate, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt = output.pixels
        stream.time_base = 1 / rate
        context = stream.codec_context
        if output.codec != "gif":
            context.color_primaries = context.color_trc = context.colorspace = BT709
            context.color_range = ColorRange.MPEG
        self._stream = stream

    def encode(self, frame: VideoFrame) -> Iterator[Packet[VideoStream]]:
        """Packets that are ready after one more picture."""
        if self._output.codec == "gif":
            for indexed in self._indexed(frame):
                yield from self._stream.encode(indexed)
            return
        yield from self._stream.encode(self._planar.updated(frame))

    def finish(self) -> Iterator[Packet[VideoStream]]:
        """What the encoder still holds."""
        if self._palette is not None:
            self._palette.push(None)
            for indexed in self._pulled(self._palette):
                yield from self._stream.encode(indexed)
        yield from self._stream.encode(None)

    def _indexed(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        if self._palette is None:
            self._palette = self._palette_graph(frame.format)
        self._palette.push(frame)
        yield from self._pulled(self._palette)

    def _pulled(self, graph: av.filter.Graph) -> Iterator[VideoFrame]:
        while True:
            try:
                frame = graph.pull()
            except (BlockingIOError, EOFError):
                return
            assert isinstance(frame, VideoFrame)
            yield frame

    def _palette_graph(self, pixels: VideoFormat) -> av.filter.Graph:
        graph = av.filter.Graph()
        width, height = self._size
        source = graph.add_buffer(
            width=width, height=height, format=pixels, time_base=1 / self._rate
        )
        split, make, use = (graph.add(name, args) for _, name, args in GIF_FILTERS)
        sink = graph.add("buffersink")
        source.link_to(split)
        split.link_to(use, 0, 0)
        split.link_to(make, 1, 0)
        make.link_to(use, 0, 1)
        use.link_to(sink)
        graph.configure()
        return graph
