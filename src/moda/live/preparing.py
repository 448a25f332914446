"""A portrait for live pictures, whoever or whatever moves it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from moda.errors import InputError
from moda.options import FrameOptions
from moda.pipeline import TalkingHead
from moda.structures import Picture
from moda.systems.embedded import EmbeddedSystem
from moda.systems.portraits import prepare_portrait
from moda.systems.protocol import Actor

LIVE_SIZE_PX = 512
"""Longer side of live pictures where none is chosen: larger ones are late."""


def prepare_live(
    head: TalkingHead, portrait: str | Path | Picture, frame: FrameOptions | None, task: str
) -> tuple[EmbeddedSystem, Actor]:
    """The system and a portrait in the size of live pictures, where the model can do the ``task``.

    Raises:
        InputError: The model cannot do it.
        MediaError, FaceError: As :meth:`TalkingHead.generate`.
    """
    system = head.system
    if not isinstance(system, EmbeddedSystem):
        raise InputError(
            f"the {system.space.name} renderer is too slow to {task}; choose moda-tiny"
        )
    frame = frame or FrameOptions()
    if frame.size is None:
        frame = replace(frame, size=LIVE_SIZE_PX)
    return system, prepare_portrait(system, portrait, frame)
