"""Kokoro: a small neural synthesiser with natural voices, in a process of its own.

It needs the package ``kokoro`` and downloads its weights (Apache-2.0) when it is first used. The
package supports fewer versions of Python than this one, so it may live in an environment of its
own, whose Python ``MODA_KOKORO_PYTHON`` names.
"""

# ruff: noqa: RUF001 - IPA letters look like Latin ones

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from moda.errors import InputError, MissingExtraError
from moda.phones import Classes, Phone, PhoneSegment, ipa_phones
from moda.speech_synthesis.synthesiser import Utterance, ask_worker
from moda.structures.words import TimedWord

WORKER = Path(__file__).with_name("workers") / "kokoro_worker.py"
TIMEOUT_SECONDS = 900.0
"""The first use downloads the weights."""
LANGUAGES = {
    "en": ("a", "af_heart"),
    "en-us": ("a", "af_heart"),
    "en-gb": ("b", "bf_emma"),
    "es": ("e", "ef_dora"),
    "fr": ("f", "ff_siwis"),
    "fr-fr": ("f", "ff_siwis"),
    "hi": ("h", "hf_alpha"),
    "it": ("i", "if_sara"),
    "ja": ("j", "jf_alpha"),
    "pt-br": ("p", "pf_dora"),
    "cmn": ("z", "zf_xiaobei"),
    "zh": ("z", "zf_xiaobei"),
}
"""Kokoro's code of a language and the voice that is used where none is named."""
SHORTHAND = {"A": "eɪ", "I": "aɪ", "O": "oʊ", "W": "aʊ", "Y": "ɔɪ", "Q": "əʊ", "T": "ɾ", "ᵊ": "ə"}
"""Letters by which Kokoro's phonemes stand for two of the IPA."""


class Kokoro:
    """A :class:`moda.speech_synthesis.Synthesiser` around Kokoro.

    Only its English has times of words; in them the phones share the time equally.
    """

    takes_language = True

    def speak(self, text: str, *, language: str, voice: str | None, rate: float) -> Utterance:
        if language.lower() not in LANGUAGES:
            raise InputError(
                f"Kokoro does not speak {language!r}; choose one of {', '.join(LANGUAGES)}"
            )
        code, usual = LANGUAGES[language.lower()]
        request = {"text": text, "language_code": code, "voice": voice or usual, "rate": rate}
        command = [os.environ.get("MODA_KOKORO_PYTHON", sys.executable), str(WORKER)]
        header, samples = ask_worker(
            command, request, name="Kokoro", timeout_seconds=TIMEOUT_SECONDS
        )
        if header.get("error") == "missing":
            raise MissingExtraError(
                "Kokoro is not installed; install it with: pip install kokoro, in an environment "
                "of its own if need be, whose Python MODA_KOKORO_PYTHON names"
            )
        rate_hz = int(header["rate_hz"])
        tokens = [(str(a), str(b), float(c), float(d)) for a, b, c, d in header["tokens"]]
        words = tuple(TimedWord(word, start, end) for word, _, start, end in tokens)
        return Utterance(samples, rate_hz, _segments(tokens, len(samples) / rate_hz), words)


def _segments(
    tokens: Sequence[tuple[str, str, float, float]], seconds: float
) -> tuple[PhoneSegment, ...]:
    segments: list[PhoneSegment] = []
    for _, phonemes, start, end in tokens:
        said: list[tuple[str, Classes]] = []
        for letter in phonemes:
            classes = ipa_phones(SHORTHAND.get(letter, letter))
            said += [(letter, classes)] if classes else []
        for index, (letter, classes) in enumerate(said):
            begin = start + (end - start) * index / len(said)
            stop = start + (end - start) * (index + 1) / len(said)
            segments.append(PhoneSegment(letter, begin, stop, classes))
    if segments and segments[-1].end_seconds < seconds:
        segments.append(PhoneSegment("", segments[-1].end_seconds, seconds, (Phone.SILENCE,)))
    return tuple(segments)
