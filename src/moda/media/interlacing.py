"""Interlaced pictures to progressive ones."""

from __future__ import annotations

from collections.abc import Iterator

import av.filter
from av.video.frame import VideoFrame


def progressive(frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    """Decoded pictures, those that say that they are interlaced without combs.

    Each stays one picture at its own time. A film that never is interlaced is passed on as it is.
    """
    graph: av.filter.Graph | None = None
    kind = None
    for frame in frames:
        if graph is not None and kind != _kind(frame):
            yield from _pulled(graph, None)
            graph = None
        if graph is None and frame.interlaced_frame:
            graph, kind = _graph(frame), _kind(frame)
        if graph is None:
            yield frame
        else:
            yield from _pulled(graph, frame)
    if graph is not None:
        yield from _pulled(graph, None)


def _kind(frame: VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name


def _graph(frame: VideoFrame) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    deinterlacer = graph.add("bwdif", "mode=send_frame:deint=interlaced")
    sink = graph.add("buffersink")
    source.link_to(deinterlacer)
    deinterlacer.link_to(sink)
    graph.configure()
    return graph


def _pulled(graph: av.filter.Graph, frame: VideoFrame | None) -> Iterator[VideoFrame]:
    """What is ready after one more picture, or at the end."""
    graph.push(frame)
    while True:
        try:
            ready = graph.pull()
        except (BlockingIOError, EOFError):
            return
        assert isinstance(ready, VideoFrame)
        yield ready
