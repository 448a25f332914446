"""Subtitles as a track of the video file, which the viewer turns on and off."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from fractions import Fraction

import av.container
from av.subtitles.codeccontext import SubtitleCodecContext
from av.subtitles.subtitle import SubtitleSet

from moda.media.subtitles import Cue

_HEADER = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
"""FFmpeg's encoders take their events in the form of Advanced SubStation Alpha."""


class SubtitleTrack:
    """Writes subtitles into a container in time with the pictures."""

    def __init__(
        self, container: av.container.OutputContainer, codec: str, cues: Sequence[Cue]
    ) -> None:
        self._container = container
        stream = container.add_stream(codec)
        context = stream.codec_context
        assert isinstance(context, SubtitleCodecContext)
        context.subtitle_header = _HEADER.encode()
        stream.time_base = Fraction(1, 1000)
        self._stream, self._encoder = stream, context
        self._cues = deque(cues)

    def write_until(self, seconds: float) -> None:
        """Write what begins before a time."""
        while self._cues and self._cues[0].start_seconds < seconds:
            cue = self._cues.popleft()
            start = round(1000 * cue.start_seconds)
            length = max(1, round(1000 * cue.end_seconds) - start)
            packet = self._encoder.encode_subtitle(
                SubtitleSet.create(_event(cue.text), 0, length, start)
            )
            packet.pts = packet.dts = start
            packet.duration, packet.time_base = length, Fraction(1, 1000)
            packet.stream = self._stream
            self._container.mux(packet)


def _event(text: str) -> bytes:
    """A text as an event; braces would be taken for commands, and backslashes."""
    safe = text.replace("\\", "/").replace("{", "(").replace("}", ")").replace("\n", "\\N")
    return f"0,0,Default,,0,0,0,,{safe}".encode()
