"""Which voices there are on this computer, and a sample of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from moda.errors import InputError, MissingExtraError
from moda.speech_synthesis.espeak import Espeak, espeak_is_installed, espeak_voices
from moda.speech_synthesis.kokoro import Kokoro, find_kokoro, voice_language
from moda.speech_synthesis.speaking import DEFAULT_LANGUAGE, synthesise

SAMPLE_TEXTS = {
    "en-us": "Hello! This is my voice, and these are my words.",
    "en-gb": "Hello! This is my voice, and these are my words.",
    "es": "¡Hola! Esta es mi voz, y estas son mis palabras.",
    "fr-fr": "Bonjour ! Voici ma voix, et voici mes mots.",
    "hi": "नमस्ते! यह मेरी आवाज़ है।",
    "it": "Ciao! Questa è la mia voce, e queste sono le mie parole.",
    "pt-br": "Olá! Esta é a minha voz, e estas são as minhas palavras.",
}
NUMBERS = "1, 2, 3, 4, 5, 6, 7."
"""What every language can say."""


class Voice(NamedTuple):
    """What ``--voice`` takes."""

    name: str
    synthesiser: str
    language: str | None
    """None: all that its synthesiser speaks."""


def installed_voices(language: str | None = None) -> tuple[Voice, ...]:
    """The voices that speak here: natural ones first.

    Args:
        language: Leave those out that speak another one.
    """
    if not espeak_is_installed():
        return ()  # Kokoro's phonemes come from it
    try:
        natural = [Voice(name, "kokoro", voice_language(name)) for name in find_kokoro().voices]
    except MissingExtraError:
        natural = []
    voices = [*natural, *(Voice(name, "espeak", None) for name in espeak_voices())]
    return tuple(voice for voice in voices if language in (None, voice.language or language))


def write_samples(
    voices: tuple[Voice, ...], folder: Path, language: str | None = None
) -> Iterator[tuple[Voice, Path]]:
    """Speak a sentence with each voice into a wav file; yields each when it is there.

    Args:
        voices: Of :func:`installed_voices`.
        folder: Of the files.
        language: Of voices that speak several.

    Raises:
        InputError: There is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"folder {folder} does not exist; create it or choose another")
    for voice in voices:
        spoken = voice.language or language or DEFAULT_LANGUAGE
        path = folder / f"{voice.synthesiser}-{voice.name}.wav"
        synthesise(
            SAMPLE_TEXTS.get(spoken, NUMBERS),
            path,
            synthesiser=Kokoro() if voice.synthesiser == "kokoro" else Espeak(),
            language=spoken,
            voice=voice.name,
        )
        yield voice, path
