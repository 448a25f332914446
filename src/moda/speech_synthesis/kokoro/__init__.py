"""Kokoro-82M, run by onnxruntime in a process of its own."""

from moda.speech_synthesis.kokoro.synthesiser import Kokoro, find_kokoro
from moda.speech_synthesis.kokoro.voices import voice_language

__all__ = ["Kokoro", "find_kokoro", "voice_language"]
