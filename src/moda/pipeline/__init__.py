"""Portraits and speech to videos: the product."""

from moda.pipeline.talking_head import TalkingHead
from moda.pipeline.talking_video import Progress, TalkingVideo, VideoSummary

__all__ = [
    "Progress",
    "TalkingHead",
    "TalkingVideo",
    "VideoSummary",
]
