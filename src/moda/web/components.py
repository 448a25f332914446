"""Gradio's components where this page needs them to behave otherwise.

Single components get methods of their own. Subclasses would be the usual way, but Gradio writes a
stub file into the package for every one of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import FileData
from gradio.processing_utils import save_bytes_to_cache

STREAM_NAME = "talking-head.ts"


def portrait_picture(**options: Any) -> gr.Image:
    """A picture whose value is the uploaded file as it is.

    Gradio would open it first, outside our limits and with messages of its own. Whether the file
    was uploaded at all is checked for all components alike, see :mod:`moda.web.uploads`.
    """
    picture = gr.Image(type="filepath", **options)

    def path_of(payload: Any) -> str | None:
        return None if payload is None else payload.path

    picture.preprocess = path_of
    return picture


def playing_video(**options: Any) -> gr.Video:
    """A player for :class:`moda.media.segments.Segment` that are added while it plays.

    Gradio would run ffmpeg and ffprobe for each piece, which need not be installed. Ours are ready
    as they are: MPEG-TS, one time line, both tracks in each.
    """
    video = gr.Video(streaming=True, interactive=False, **options)

    async def combine(stream: list[bytes], *_: Any, **__: Any) -> FileData:
        # MPEG-TS may be put one after the other.
        path = save_bytes_to_cache(b"".join(stream), STREAM_NAME, video.GRADIO_CACHE)
        return FileData(path=path, orig_name=STREAM_NAME)

    video.stream_output = _give_segment
    video.flush_stream_output = _nothing_is_left
    video.combine_stream = combine
    return video


def refuse_odd_values(blocks: gr.Blocks) -> None:
    """Values that a page cannot have sent are refused in one line, where Gradio shows its own code.

    Gradio raises whatever comes of them and prints it.
    """
    understand = blocks.preprocess_data

    async def understood(*arguments: Any, **more: Any) -> Any:
        try:
            values = await understand(*arguments, **more)
        except gr.Error as error:
            error.print_exception = False
            raise
        except Exception as error:
            raise gr.Error("a value cannot be used", print_exception=False) from error
        if len(values) == 1 and values[0] is None:  # an example that is none
            raise gr.Error("nothing was chosen", print_exception=False)
        return values

    blocks.preprocess_data = understood


async def _give_segment(
    value: tuple[Path, float] | None, output_id: str, first_chunk: bool
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """One piece, and what names the whole stream; the order is Gradio's."""
    output = {
        "path": output_id,
        "is_stream": True,
        "orig_name": STREAM_NAME,
        "meta": {"_type": "gradio.FileData"},
    }
    if value is None:
        return None, output
    path, seconds = value
    return {"data": Path(path).read_bytes(), "duration": seconds, "extension": ".ts"}, output


async def _nothing_is_left(output_id: str) -> None:
    return None
