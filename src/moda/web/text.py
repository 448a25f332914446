"""Whether, and in which languages, this installation can speak text for the page."""

from __future__ import annotations

from typing import Protocol

from moda.speech_synthesis import (
    DEFAULT_LANGUAGE,
    ESPEAK_INSTALL,
    espeak_is_installed,
    espeak_languages,
)


class TextSpeaker(Protocol):
    """Knows what can be spoken."""

    def why_not(self) -> str | None:
        """Why nothing can be spoken here, in one sentence; None if it can."""
        ...

    def languages(self) -> tuple[str, ...]:
        """Names of the languages that can be spoken, the usual one first."""
        ...


class InstalledSpeaker:
    """The :class:`TextSpeaker` of this computer: espeak-ng."""

    def why_not(self) -> str | None:
        return None if espeak_is_installed() else ESPEAK_INSTALL

    def languages(self) -> tuple[str, ...]:
        known = espeak_languages()
        usual = tuple(name for name in known if name == DEFAULT_LANGUAGE)
        return usual + tuple(name for name in known if name != DEFAULT_LANGUAGE)
