"""Where text becomes speech for the server: one function, and nothing else knows how."""

from __future__ import annotations

from pathlib import Path

from moda.errors import MissingExtraError
from moda.speech_synthesis import SpokenText, espeak_is_installed, find_synthesiser, synthesise


def write_spoken_text(text: str, path: Path, language: str) -> SpokenText:
    """Write a text, with emotions in tags, as speech to a sound file.

    Raises:
        MissingExtraError: this server has no speech synthesis.
        InputError: a tag or the language is unknown, or the text cannot be spoken.
    """
    if not espeak_is_installed():
        raise MissingExtraError(
            f"this server has no speech synthesis for {len(text)} characters of text; send speech"
        )
    return synthesise(text, path, synthesiser=find_synthesiser(), language=language)
