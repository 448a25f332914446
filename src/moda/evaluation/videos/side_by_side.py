"""All rows of a clip in one video, to be looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from moda.evaluation.videos.references import Reference, resized, write_video
from moda.evaluation.videos.rows import RowVideo
from moda.media import write_image
from moda.structures import Picture

TILE_PX, BAND_PX, COLUMNS = 320, 28, 4
BACKGROUND, INK = 24, 235
"""Grey levels"""


def write_side_by_side(path: Path, videos: Sequence[RowVideo], reference: Reference) -> None:
    """A grid of the videos with their names above, with the speech.

    A video that ends early stays on its last frame; one that goes on is cut at the clip's end.
    """
    columns = grid_columns(len(videos))
    rows = -(-len(videos) // columns)
    size = (columns * TILE_PX, rows * (TILE_PX + BAND_PX))
    write_video(
        path, grid_frames(videos, reference.num_frames, columns), size, reference.speech_file
    )


def write_poster(path: Path, videos: Sequence[RowVideo], num_frames: int) -> None:
    """A picture from the middle of the grid, for players that have not begun."""
    frames = grid_frames(videos, num_frames, grid_columns(len(videos)))
    write_image(path, next(islice(frames, num_frames // 2, None)))


def grid_columns(num_videos: int) -> int:
    """At most four, and lines that are equally full."""
    lines = -(-num_videos // COLUMNS)
    return -(-num_videos // lines)


def grid_frames(videos: Sequence[RowVideo], num_frames: int, columns: int) -> Iterator[Picture]:
    """The pictures of the grid, one after the other."""
    bands = [name_band(video.row) for video in videos]
    readers = [video.frames() for video in videos]
    blank = np.full((TILE_PX, TILE_PX, 3), BACKGROUND, np.uint8)
    last = [blank] * len(videos)
    for _ in range(num_frames):
        for index, reader in enumerate(readers):
            frame = next(reader, None)
            if frame is not None:
                last[index] = fit_tile(frame)
        tiles = [np.vstack([band, tile]) for band, tile in zip(bands, last, strict=True)]
        missing = -len(tiles) % columns
        empty = np.full((TILE_PX + BAND_PX, TILE_PX, 3), BACKGROUND, np.uint8)
        tiles += [empty] * missing
        lines = [
            np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)
        ]
        yield np.ascontiguousarray(np.vstack(lines))


def fit_tile(frame: Picture) -> Picture:
    """(320, 320, 3) the whole frame, its shape kept, on a dark ground."""
    height, width = frame.shape[:2]
    scale = TILE_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    tile = np.full((TILE_PX, TILE_PX, 3), BACKGROUND, np.uint8)
    top, left = (TILE_PX - size[1]) // 2, (TILE_PX - size[0]) // 2
    tile[top : top + size[1], left : left + size[0]] = resized(frame, size)
    return tile


def name_band(name: str) -> Picture:
    """(28, 320, 3) the name in light letters, made smaller until it fits."""
    band = np.full((BAND_PX, TILE_PX, 3), BACKGROUND, np.uint8)
    scale = 0.55
    while cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0] > TILE_PX - 12:
        scale *= 0.9
    drawn = cv2.putText(
        band, name, (6, 19), cv2.FONT_HERSHEY_SIMPLEX, scale, (INK,) * 3, 1, cv2.LINE_AA
    )
    return np.asarray(drawn, np.uint8)
