"""Where text becomes speech for the server: one function, and nothing else knows how."""

from __future__ import annotations

from pathlib import Path

from moda.errors import MissingExtraError


def write_spoken_text(text: str, path: Path) -> None:
    """Write a text as speech to a sound file.

    Raises:
        MissingExtraError: this server has no speech synthesis.
    """
    raise MissingExtraError(
        f"this server has no speech synthesis for {len(text)} characters of text; send speech"
    )
