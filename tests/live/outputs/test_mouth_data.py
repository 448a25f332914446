"""What a live face does, as events for other avatars."""

from __future__ import annotations

import json

import numpy as np

from live_frames import SPACE, live_frames
from moda.live.outputs import LiveMouth
from moda.motion.blend_shapes import ARKIT_SHAPES, BlendShapes
from moda.phones import Phone
from moda.structures import Motion


def test_events() -> None:
    (frame,) = live_frames(1, (64, 48))
    mouth = LiveMouth(SPACE)
    rest = mouth.event(frame)
    assert rest == {"type": "mouth", "frame": 0, "viseme": "aa", "shapes": {}, "head": [0, 0, 0]}
    values = SPACE.rest[None] + 0.8 * SPACE.std
    moved = frame._replace(motion=Motion(values.astype(np.float32), SPACE), phone=Phone.BILABIAL)
    event = json.loads(json.dumps(mouth.event(moved)))
    assert event["viseme"] == "PP"
    (amounts,) = BlendShapes(SPACE)(moved.motion)
    told = [event["shapes"].get(name, 0.0) for name in ARKIT_SHAPES]
    assert np.abs(np.array(told) - amounts).max() <= 0.0005
    assert event["head"][0] == round(float(values[0, SPACE.slice("pitch")][0]), 2)
