"""Where the frames of a live head go besides a page: streams, cameras, and other avatars.

Each has ``show(frame)`` for every :class:`moda.live.LiveFrame` in its order, and ``close()``;
:class:`LiveMouth` has ``event(frame)``.
"""

from moda.live.outputs.camera import CameraOutput
from moda.live.outputs.mouth import LiveMouth
from moda.live.outputs.rtmp import RtmpOutput

__all__ = ["CameraOutput", "LiveMouth", "RtmpOutput"]
