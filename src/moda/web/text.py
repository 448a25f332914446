"""Whether, and in which languages, this installation can speak text for the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from moda.speech_synthesis import DEFAULT_LANGUAGE, ESPEAK_INSTALL, espeak_is_installed
from moda.speech_synthesis.espeak import espeak_language_names
from moda.speech_synthesis.installed import Voice, installed_voices


class TextSpeaker(NamedTuple):
    """What can be spoken."""

    why_not: str | None
    """Why nothing can be spoken here, in one sentence; None if it can."""
    languages: tuple[tuple[str, str], ...] = ()
    """Names and codes of the languages that can be spoken, the usual one first."""
    voices: tuple[tuple[str, str], ...] = ()
    """Labels and names of the voices, natural ones first."""


def installed_speaker() -> TextSpeaker:
    """What speaks on this computer."""
    if not espeak_is_installed():
        return TextSpeaker(ESPEAK_INSTALL)
    names = espeak_language_names()
    languages = sorted((name.strip(), code) for code, name in names.items())
    usual_first = sorted(languages, key=lambda language: language[1] != DEFAULT_LANGUAGE)
    voices = tuple((label_of(voice, names), voice.name) for voice in installed_voices())
    return TextSpeaker(None, tuple(usual_first), voices)


def label_of(voice: Voice, languages: Mapping[str, str]) -> str:
    """``Heart, English (America)`` for ``af_heart``; a voice that speaks all is only named."""
    if voice.language is None:
        return voice.name[:1].upper() + voice.name[1:]
    person = voice.name.partition("_")[2] or voice.name
    return f"{person.capitalize()}, {languages.get(voice.language, voice.language)}"
