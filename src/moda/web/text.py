"""Speech from text, where this installation can speak."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

from moda.phones import PhoneSegment
from moda.structures import Style


class SpokenText(NamedTuple):
    """A text that has been spoken."""

    sound: Path
    style: Style
    """Emotions from the tags of the text; empty where it has none."""
    phones: tuple[PhoneSegment, ...]
    """What is said when; empty where nobody knows."""


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
