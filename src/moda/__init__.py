"""MoDA: a portrait and a speech recording become a talking-head video."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from moda.version import __version__

if TYPE_CHECKING:
    from moda.errors import (
        CheckpointError,
        ConfigError,
        FaceError,
        InputError,
        MediaError,
        MissingExtraError,
        ModaError,
        OutputError,
    )
    from moda.pipeline import TalkingHead, TalkingVideo, VideoSummary
    from moda.structures import EMOTIONS, EmotionAt, Motion, MotionSpace, Portrait, Speech, Style

# onnxruntime reports its use to its makers unless it is told before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "EMOTIONS",
    "CheckpointError",
    "ConfigError",
    "EmotionAt",
    "FaceError",
    "InputError",
    "MediaError",
    "MissingExtraError",
    "ModaError",
    "Motion",
    "MotionSpace",
    "OutputError",
    "Portrait",
    "Speech",
    "Style",
    "TalkingHead",
    "TalkingVideo",
    "VideoSummary",
    "__version__",
]

_HOMES = {
    "moda.pipeline": ("TalkingHead", "TalkingVideo", "VideoSummary"),
    "moda.structures": (
        "EMOTIONS",
        "EmotionAt",
        "Motion",
        "MotionSpace",
        "Portrait",
        "Speech",
        "Style",
    ),
    "moda.errors": tuple(name for name in __all__ if name.endswith("Error")),
}
"""Where the public names live; importing moda alone imports none of it, torch least of all."""


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'moda' has no attribute {name!r}")
