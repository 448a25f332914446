"""Every option of a video, described once.

From the fields of :class:`VideoOptions` come the parameters of the command line, the columns of a
table, the inputs of the web page, of the server and of ComfyUI, the keywords in Python, the limits,
the defaults and the reference. An option is added as one field there, and used in one place.
"""

from moda.options.description import Command, DescribedOption, Option, require_range
from moda.options.reading import (
    OPTIONS,
    document,
    field_name,
    for_visitors,
    of_command,
    of_head,
    read_options,
    read_visitor_options,
)  # fmt: skip
from moda.options.texts import Speaker
from moda.options.video import (
    MAX_BLINK_RATE,
    MAX_SIZE_PX,
    MAX_STYLE_CHARACTERS,
    MIN_SIZE_PX,
    RATE_LIMITS,
    USUAL_BLINK_RATE,
    VISITOR_SIZE_PX,
    FrameOptions,
    Gaze,
    ModelChoice,
    MotionAmounts,
    SpeakingOptions,
    VideoOptions,
)  # fmt: skip

__all__ = [
    "MAX_BLINK_RATE",
    "MAX_SIZE_PX",
    "MAX_STYLE_CHARACTERS",
    "MIN_SIZE_PX",
    "OPTIONS",
    "RATE_LIMITS",
    "USUAL_BLINK_RATE",
    "VISITOR_SIZE_PX",
    "Command",
    "DescribedOption",
    "FrameOptions",
    "Gaze",
    "ModelChoice",
    "MotionAmounts",
    "Option",
    "Speaker",
    "SpeakingOptions",
    "VideoOptions",
    "document",
    "field_name",
    "for_visitors",
    "of_command",
    "of_head",
    "read_options",
    "read_visitor_options",
    "require_range",
]  # fmt: skip
