"""Before and after: the photograph beside one frame of its video."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from moda.media import VideoReader, read_image
from moda.pipeline import VideoSummary
from moda.structures import Picture


def before_and_after(portrait: Path, video: VideoSummary) -> tuple[Picture, Picture]:
    """The photograph, and of the video's first ten seconds the frame that differs most from it.

    Both are (H, W, 3) in the size of the video, which shows the whole picture.
    """
    before: Picture | None = None
    chosen, largest = None, -1.0
    for seconds, frame in VideoReader(video.path).timed_pictures():
        if before is None:
            size = frame.shape[1::-1]
            before = cv2.resize(read_image(portrait), size, interpolation=cv2.INTER_AREA).astype(
                np.uint8, copy=False
            )
        difference = float(cv2.absdiff(before, frame).mean())
        if difference > largest:
            chosen, largest = frame, difference
        if seconds >= LOOKED_AT_SECONDS:
            break
    assert before is not None
    assert chosen is not None
    return before, chosen


LOOKED_AT_SECONDS = 10.0
