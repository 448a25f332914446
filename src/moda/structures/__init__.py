"""What the stages hand to each other. Arrays are numpy."""

from moda.structures.arrays import Floats, Metadata, Part, Picture
from moda.structures.motion import FRAMES_PER_SECOND, Motion, MotionSpace, Renderer
from moda.structures.portrait import Background, ImplicitFace, NeuralPortrait, Portrait
from moda.structures.speech import UNKNOWN_PHONE, HeardFrame, RecentSpeech, Speech
from moda.structures.style import EMOTIONS, EmotionAt, Style

__all__ = [
    "EMOTIONS",
    "FRAMES_PER_SECOND",
    "UNKNOWN_PHONE",
    "Background",
    "EmotionAt",
    "Floats",
    "HeardFrame",
    "ImplicitFace",
    "Metadata",
    "Motion",
    "MotionSpace",
    "NeuralPortrait",
    "Part",
    "Picture",
    "Portrait",
    "RecentSpeech",
    "Renderer",
    "Speech",
    "Style",
]
