"""Gradio's components where this page needs them to behave otherwise."""

from __future__ import annotations

import gradio as gr
from gradio.data_classes import FileData, FileDataDict, ImageData, MediaStreamChunk

from moda.media.segments import Segment


class PortraitPicture(gr.Image):
    """A picture that is handed on as the uploaded file.

    Gradio would open it first, outside our limits and with messages of its own.
    """

    is_template = True

    def preprocess(self, payload: ImageData | None) -> str | None:
        return None if payload is None else payload.path


class PlayingVideo(gr.Video):
    """A player for pieces of video that are added while it plays.

    Gradio would run ffmpeg and ffprobe for each piece, which need not be installed. Ours are ready
    as they are: MPEG-TS, one time line, both tracks in each. To be made with ``streaming=True``.
    """

    is_template = True

    async def stream_output(
        self, value: Segment | None, output_id: str, first_chunk: bool
    ) -> tuple[MediaStreamChunk | None, FileDataDict]:
        """Give one piece to the player; Gradio makes a list of the :class:`Segment`."""
        output: FileDataDict = {
            "path": output_id,
            "is_stream": True,
            "orig_name": "talking-head.ts",
            "meta": {"_type": "gradio.FileData"},
        }
        if value is None:
            return None, output
        path, seconds = value
        return {"data": path.read_bytes(), "duration": seconds, "extension": ".ts"}, output

    async def flush_stream_output(self, output_id: str) -> MediaStreamChunk | None:
        return None

    def end_stream_output(self, output_id: str) -> None:
        return None

    async def combine_stream(
        self,
        stream: list[bytes],
        desired_output_format: str | None = None,
        only_file: bool = False,
    ) -> FileData:
        """All pieces in one file; MPEG-TS may be put one after the other."""
        from gradio.processing_utils import save_bytes_to_cache

        path = save_bytes_to_cache(b"".join(stream), "talking-head.ts", self.GRADIO_CACHE)
        return FileData(path=path, orig_name="talking-head.ts")
