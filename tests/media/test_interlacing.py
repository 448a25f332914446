"""Interlaced footage: the lines of two moments become one picture without combs."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import av.filter
import numpy as np
import pytest
from av.video.frame import VideoFrame

from moda.media import VideoReader

COUNT = 12


def comb(picture: np.ndarray) -> float:
    """How far lines are from their neighbours, over how far those are from each other."""
    rows = picture.astype(float).mean(2)
    between = np.abs(rows[1:-1:2] - 0.5 * (rows[:-2:2] + rows[2::2])).mean()
    return float(between / (np.abs(rows[2::2] - rows[:-2:2]).mean() + 1e-9))


def field(moment: int) -> np.ndarray:
    """A bright disc on its way to the right, (96, 128, 3)."""
    rows, columns = np.mgrid[:96, :128]
    distance = np.hypot(rows - 48, columns - 20 - 3 * moment)
    level = 40 + 160 * np.clip((30 - distance) / 4, 0, 1)
    return np.repeat(level[..., None], 3, axis=2).astype(np.uint8)


def write(path: Path, codec: str, *, top_first: bool, rotated: bool = False) -> list[np.ndarray]:
    """An interlaced film; returns the pictures of its first fields."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=128, height=96, format="yuv420p", time_base=Fraction(1, 25))
    order = graph.add("setfield", "tff" if top_first else "bff")
    sink = graph.add("buffersink")
    source.link_to(order)
    order.link_to(sink)
    graph.configure()
    firsts = [field(2 * n) for n in range(COUNT)]
    with av.open(str(path), "w") as container:
        options = {"flags": "+ildct+ilme", "b": "4M"}
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        if rotated:
            stream.set_display_matrix([0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30])
        for index, first in enumerate(firsts):
            woven = field(2 * index + 1)
            own = slice(0 if top_first else 1, None, 2)
            woven[own] = first[own]
            frame = VideoFrame.from_ndarray(woven, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            graph.push(frame)
            container.mux(stream.encode(graph.pull()))
        container.mux(stream.encode(None))
    return firsts


@pytest.mark.parametrize(
    ("name", "codec", "top_first"),
    [("a.mp4", "libx264", True), ("a.mkv", "libx264", False), ("a.mpg", "mpeg2video", False)],
)
def test_no_combs_and_every_picture_in_its_place(
    tmp_path: Path, name: str, codec: str, top_first: bool
) -> None:
    firsts = write(tmp_path / name, codec, top_first=top_first)
    with av.open(str(tmp_path / name)) as container:
        stored = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert np.median([comb(picture) for picture in stored]) > 0.8
    pictures = list(VideoReader(tmp_path / name))
    assert len(pictures) == COUNT
    assert max(comb(picture) for picture in pictures[1:]) < 0.75
    for index in range(1, COUNT - 1):
        distances = [np.abs(pictures[index] - firsts[n].astype(float)).mean() for n in range(COUNT)]
        assert int(np.argmin(distances)) == index
    times = [seconds for seconds, _ in VideoReader(tmp_path / name).timed_pictures()]
    np.testing.assert_allclose(np.diff(times), 0.04, atol=1e-3)


def test_interlaced_and_turned(tmp_path: Path) -> None:
    firsts = write(tmp_path / "a.mp4", "libx264", top_first=True, rotated=True)
    picture = list(VideoReader(tmp_path / "a.mp4"))[5]
    assert np.abs(picture - np.rot90(firsts[5], -1).astype(float)).mean() < 4
