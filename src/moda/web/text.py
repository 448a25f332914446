"""Speech from text for the page, where this installation can speak."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from moda.speech_synthesis import (
    DEFAULT_LANGUAGE,
    ESPEAK_INSTALL,
    SpokenText,
    espeak_is_installed,
    espeak_languages,
    find_synthesiser,
    synthesise,
)


class TextSpeaker(Protocol):
    """Turns text into speech."""

    def why_not(self) -> str | None:
        """Why nothing can be spoken here, in one sentence; None if it can."""
        ...

    def languages(self) -> tuple[str, ...]:
        """Names of the languages that can be spoken, the usual one first."""
        ...

    def speak(self, text: str, language: str, folder: Path) -> SpokenText:
        """Speak a text, with emotions in tags, into a new file in ``folder``.

        Raises:
            ModaError: The text cannot be spoken.
        """
        ...


class InstalledSpeaker:
    """The :class:`TextSpeaker` of this computer: espeak-ng."""

    def why_not(self) -> str | None:
        return None if espeak_is_installed() else ESPEAK_INSTALL

    def languages(self) -> tuple[str, ...]:
        known = espeak_languages()
        usual = tuple(name for name in known if name == DEFAULT_LANGUAGE)
        return usual + tuple(name for name in known if name != DEFAULT_LANGUAGE)

    def speak(self, text: str, language: str, folder: Path) -> SpokenText:
        return synthesise(
            text, folder / "speech.wav", synthesiser=find_synthesiser(), language=language
        )
