"""Pictures, sound and video in and out: the only part that knows PyAV and Pillow.

Files are untrusted: size, duration, pixels and formats are limited before anything is decoded,
only local files are opened, and everything is streamed except the one portrait.
"""

from moda.media.audio import AudioReader
from moda.media.formats import FORMATS
from moda.media.images import (
    animation_bytes,
    check_image,
    jpeg_bytes,
    png_bytes,
    read_image,
    write_image,
)
from moda.media.video import VideoReader
from moda.media.writer import VideoWriter, check_output_path, exact_rate, outputs_of

__all__ = [
    "FORMATS",
    "AudioReader",
    "VideoReader",
    "VideoWriter",
    "animation_bytes",
    "check_image",
    "check_output_path",
    "exact_rate",
    "jpeg_bytes",
    "outputs_of",
    "png_bytes",
    "read_image",
    "write_image",
]
