"""Pictures in the planes that encoders take; only the part that moves is converted again."""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from moda.structures import Part, Picture

FILTER_REACH_PX = 2
"""Even. Pixels so near have a say in the colour of one, which planes hold at half the size."""


def with_surroundings(part: Part, size: tuple[int, int]) -> Part:
    """A part of a picture (width, height) with what it colours, and what that is coloured by."""
    width, height = size
    return _grown(part[0], height), _grown(part[1], width)


def _grown(span: slice, length: int) -> slice:
    start = max(0, span.start // 2 * 2 - 2 * FILTER_REACH_PX)
    return slice(start, min(length, (span.stop + 1) // 2 * 2 + 2 * FILTER_REACH_PX))


class PlanarPicture:
    """One picture in planes (4:2:0, BT.709, limited range), which is brought up to date.

    Args:
        pixels: The name of its format.
        size: (width, height), even.
        part: What :func:`with_surroundings` says of the part that moves; None: pictures are whole.
    """

    def __init__(self, pixels: str, size: tuple[int, int], part: Part | None) -> None:
        self._pixels, self._size, self._part = pixels, size, part
        self._reformatter = VideoReformatter()
        self._whole: VideoFrame | None = None

    def updated(self, frame: VideoFrame) -> VideoFrame:
        """The picture with a new part, or with all of it new, which the first one has to be.

        It is the same object again if nobody else holds on to its pixels.
        """
        planar = self._reformatter.reformat(
            frame,
            format=self._pixels,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        if self._part is None or self._whole is None:
            self._whole = planar
        else:
            self._whole.make_writable()
            self._paste(planar, self._whole, self._part)
        self._whole.pts, self._whole.time_base = frame.pts, frame.time_base
        return self._whole

    def _paste(self, planar: VideoFrame, whole: VideoFrame, part: Part) -> None:
        """Put all but the outermost pixels, which lack their neighbours, in their place."""
        width, height = self._size
        rows, columns = _without_rim(part[0], height), _without_rim(part[1], width)
        for index, (source, target) in enumerate(zip(planar.planes, whole.planes, strict=True)):
            step = 2 if index else 1
            place = _texels(rows, 0, step), _texels(columns, 0, step)
            moved = (
                _texels(rows, part[0].start, step),
                _texels(columns, part[1].start, step),
            )
            _bytes_of(target)[place] = _bytes_of(source)[moved]


def _texels(span: slice, origin: int, step: int) -> slice:
    """Pixels of a picture as those of a plane of every ``step``-th pixel from an origin."""
    return slice((span.start - origin) // step, (span.stop - origin) // step)


def _without_rim(span: slice, length: int) -> slice:
    start = 0 if span.start == 0 else span.start + FILTER_REACH_PX
    return slice(start, length if span.stop == length else span.stop - FILTER_REACH_PX)


def _bytes_of(plane: VideoPlane) -> Picture:
    """The bytes (H, W) of a plane, which can be written."""
    lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return lines[: plane.height, : plane.width]
