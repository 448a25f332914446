"""What a live face does, frame by frame, for an avatar that somebody else draws."""

from __future__ import annotations

from typing import Any

from moda.live.head import LiveFrame
from moda.motion.blend_shapes import ARKIT_SHAPES, BlendShapes
from moda.motion.visemes import VISEMES
from moda.structures import MotionSpace


class LiveMouth:
    """Turns frames into events: ``mouth`` with the amounts of blend shapes and the head's angles.

    A session that does not draw (``LiveSession(draw=False)``) is most of the work cheaper.

    Args:
        space: of the head's motion.

    Raises:
        InputError: The motion is not of the mesh space.
    """

    def __init__(self, space: MotionSpace) -> None:
        self._shapes = BlendShapes(space)
        self._pose = [space.slice(name).start for name in ("pitch", "yaw", "roll")]

    def event(self, frame: LiveFrame) -> dict[str, Any]:
        """``{"type": "mouth", "frame": n, "viseme": name, "shapes": {...}, "head": [...]}``.

        Shapes are amounts by name, without those that are 0; the head's pitch, yaw and roll are in
        degrees, as :data:`moda.pipeline.exporting.HEAD`.
        """
        (amounts,) = self._shapes(frame.motion)
        return {
            "type": "mouth",
            "frame": frame.number,
            "viseme": VISEMES[frame.phone],
            "shapes": {
                name: round(float(amount), 3)
                for name, amount in zip(ARKIT_SHAPES, amounts, strict=True)
                if amount >= 0.0005
            },
            "head": [round(float(frame.motion.values[0, index]), 2) for index in self._pose],
        }
