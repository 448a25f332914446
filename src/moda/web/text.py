"""Whether, and in which languages, this installation can speak text for the page."""

from __future__ import annotations

from typing import NamedTuple

from moda.speech_synthesis import (
    DEFAULT_LANGUAGE,
    ESPEAK_INSTALL,
    espeak_is_installed,
    espeak_languages,
)
from moda.speech_synthesis.installed import installed_voices


class TextSpeaker(NamedTuple):
    """What can be spoken."""

    why_not: str | None
    """Why nothing can be spoken here, in one sentence; None if it can."""
    languages: tuple[str, ...] = ()
    """Names of the languages that can be spoken, the usual one first."""
    voices: tuple[tuple[str, str], ...] = ()
    """Labels and names of the voices, natural ones first."""


def installed_speaker() -> TextSpeaker:
    """What speaks on this computer."""
    if not espeak_is_installed():
        return TextSpeaker(ESPEAK_INSTALL)
    usual_first = sorted(espeak_languages(), key=lambda name: name != DEFAULT_LANGUAGE)
    voices = tuple(
        (f"{voice.name} ({voice.language or 'any language'})", voice.name)
        for voice in installed_voices()
    )
    return TextSpeaker(None, tuple(usual_first), voices)
