"""A portrait from a file made ready: of an animation, the first picture that shows the face."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from moda.errors import FaceError
from moda.media.images import read_pictures
from moda.options import FrameOptions
from moda.structures import Picture
from moda.systems.protocol import Actor, FaceSystem


def prepare_portrait(
    system: FaceSystem, portrait: str | Path | Picture, options: FrameOptions
) -> Actor:
    """Make a picture (H, W, 3) or a file ready to move.

    Raises:
        InputError, FaceError: As :meth:`FaceSystem.prepare`, for the first picture.
        MediaError: The file cannot be read.
    """
    if isinstance(portrait, np.ndarray):
        return system.prepare(portrait, options)
    first: FaceError | None = None
    for number, picture in enumerate(read_pictures(portrait), start=1):
        try:
            actor = system.prepare(picture, options)
        except FaceError as error:
            first = first or error
            continue
        if number == 1:
            return actor
        note = f"picture {number} of the animation is used, the first that shows the face"
        return actor._replace(notes=(note, *actor.notes))
    assert first is not None
    raise first
