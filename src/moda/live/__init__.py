"""A talking head that is always there: sound goes in as it is spoken, frames come out at 25 fps.

:mod:`~moda.live.head` makes the frames, by hand or by the clock; :mod:`~moda.live.stream` does it
for programs that run on asyncio, with sound of any rate; :mod:`~moda.live.realtime` gives a face to
a server of the OpenAI Realtime protocol. :mod:`~moda.live.reenactment` follows a camera.
"""

from moda.encoders.live_speech import LIVE_RATES_HZ
from moda.live.head import (
    LOOK_AHEAD_FRAMES,
    LiveFrame,
    LiveHead,
    LiveOptions,
    LiveSession,
    LiveStatistics,
    SoundQueue,
)
from moda.live.reenactment import LiveReenactment, ReenactedFrame
from moda.live.stream import LiveStream

__all__ = [
    "LIVE_RATES_HZ",
    "LOOK_AHEAD_FRAMES",
    "LiveFrame",
    "LiveHead",
    "LiveOptions",
    "LiveReenactment",
    "LiveSession",
    "LiveStatistics",
    "LiveStream",
    "ReenactedFrame",
    "SoundQueue",
]
