"""espeak-ng: formant synthesis in over a hundred languages, with exact times of its phones."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moda.errors import InputError, MissingExtraError
from moda.phones import (
    SHORTEST_PHONE_SECONDS,
    Phone,
    PhoneSegment,
    ipa_phones,
    restore_closures,
)
from moda.speech_synthesis.scripts import script_of
from moda.speech_synthesis.synthesiser import Utterance, ask_worker
from moda.structures.words import TimedWord, split_words

WORKER = Path(__file__).with_name("workers") / "espeak_worker.py"
WORDS_PER_MINUTE = 175
TIMEOUT_SECONDS = 60.0
ALIASES = {"zh": "cmn-latn-pinyin", "zh-cn": "cmn-latn-pinyin", "cmn": "cmn-latn-pinyin"}
"""The voice ``cmn`` of espeak-ng 1.51 reads the tones of Chinese characters as English digits."""
INSTALL = "no voice is installed here that speaks a text; get one with: pip install espeakng-loader"


class Espeak:
    """A :class:`moda.speech_synthesis.Synthesiser` around espeak-ng in a process of its own.

    A voice is one of its variants, such as ``f3``, ``m2`` or ``anika``.
    """

    takes_language = True

    def speak(self, text: str, *, language: str, voice: str | None, rate: float) -> Utterance:
        _check_script(text, language)
        name = ALIASES.get(language.lower(), language)
        request = {
            "text": text,
            "voice": f"{name}+{voice}" if voice else name,
            "words_per_minute": round(WORDS_PER_MINUTE * rate),
        }
        if voice is not None and voice not in _known()[1]:
            raise InputError(
                f"espeak-ng has no voice {voice!r}; choose one of {', '.join(_known()[1])}"
            )
        header, samples = _ask(request)
        if header.get("error") == "voice":
            raise InputError(_unknown_language(language))
        rate_hz = int(header["rate_hz"])
        segments = _segments(header["phones"], rate_hz, len(samples))
        return Utterance(
            samples,
            rate_hz,
            tuple(restore_closures(segments, samples, rate_hz)),
            _words(text, header["words"], rate_hz, len(samples)),
        )


def espeak_phonemes(texts: Sequence[str], language: str) -> list[str]:
    """How texts are said, in IPA with stress before the vowel and ``^`` within one sound.

    Raises:
        InputError: The language is unknown.
        MissingExtraError: espeak-ng is not installed.
    """
    header, _ = _ask({"phonemes": list(texts), "voice": language})
    if header.get("error") == "voice":
        raise InputError(_unknown_language(language))
    return list(header["phonemes"])


def espeak_languages() -> tuple[str, ...]:
    """The languages of espeak-ng here.

    Raises:
        MissingExtraError: espeak-ng is not installed.
    """
    return tuple(_known()[0])


def espeak_language_names() -> Mapping[str, str]:
    """The same with their names, such as ``English (America)``."""
    return _known()[0]


def espeak_voices() -> tuple[str, ...]:
    """The voices of espeak-ng here, which speak every language.

    Raises:
        MissingExtraError: espeak-ng is not installed.
    """
    return _known()[1]


@cache
def _known() -> tuple[Mapping[str, str], tuple[str, ...]]:
    """Languages with their names, and variants of voices.

    espeak-ng passes over a variant that it does not know.
    """
    header, _ = _ask({})
    return header["languages"], tuple(header["variants"])


def espeak_is_installed() -> bool:
    """Whether espeak-ng can be used here."""
    try:
        return bool(espeak_languages())
    except MissingExtraError:
        return False


def _ask(request: dict[str, Any]) -> tuple[dict[str, Any], NDArray[np.int16]]:
    command = [sys.executable, "-I", str(WORKER)]
    header, samples = ask_worker(
        command, request, name="espeak-ng", timeout_seconds=TIMEOUT_SECONDS
    )
    if header.get("error") == "missing":
        raise MissingExtraError(INSTALL)
    if header.get("error") == "data":
        raise MissingExtraError(
            "espeak-ng's library is there but its data is not; install espeak-ng again"
        )
    return header, samples


def _check_script(text: str, language: str) -> None:
    """Refuse what espeak-ng would read as "Chinese letter"."""
    if language.split("-")[0] != "ja":
        return
    kanji = [letter for letter in text if script_of(letter) == "CJK"]
    if kanji:
        raise InputError(
            f"espeak-ng cannot read Japanese kanji such as {kanji[0]!r}; write the text in kana, "
            "or use another synthesiser"
        )


def _unknown_language(language: str) -> str:
    known = espeak_languages()
    near = difflib.get_close_matches(language, known, n=3, cutoff=0.4)
    near += [name for name in known if name.split("-")[0] == language.split("-")[0]]
    hint = ", ".join(dict.fromkeys(near)) or "en-us, de, fr-fr, es, ru, cmn, ..."
    return (
        f"espeak-ng does not speak {language!r}; it speaks {len(known)} languages, such as {hint} "
        "(espeak-ng --voices)"
    )


def _segments(
    events: Sequence[tuple[str, int]], rate_hz: int, num_samples: int
) -> list[PhoneSegment]:
    """Phones with their times; a pause of under 20 ms is a seam between words and no silence."""
    said = [(symbol, sample) for symbol, sample in events if not symbol.startswith("(")]
    starts = [sample / rate_hz for _, sample in said]
    ends = [*starts[1:], num_samples / rate_hz]
    segments: list[PhoneSegment] = []
    for (symbol, _), start, end in zip(said, starts, ends, strict=True):
        phones = ipa_phones(symbol)
        if symbol.strip("_:") == "":
            phones = (Phone.SILENCE,)
            if segments and end - start < SHORTEST_PHONE_SECONDS:
                phones = ()
        if phones and end > start:
            segments.append(PhoneSegment(symbol, start, end, phones))
        elif segments:
            segments[-1] = segments[-1]._replace(end_seconds=end)
    return segments


def _words(
    text: str, events: Sequence[tuple[int, int]], rate_hz: int, num_samples: int
) -> tuple[TimedWord, ...]:
    """The text cut where espeak-ng begins a word; a word that it says in several parts is one."""
    lengths = [len(word) for word in split_words(text)]
    places = {end - length for end, length in zip(accumulate(lengths), lengths, strict=True)}
    begins: list[tuple[int, float]] = []
    for position, sample in events:
        at = min(position, len(text))
        while at < len(text) and text[at].isspace():
            at += 1
        if at in places and (not begins or at > begins[-1][0]):
            begins.append((at, sample / rate_hz))
    if begins:
        begins[0] = (0, begins[0][1])
    ends = [*begins[1:], (len(text), num_samples / rate_hz)]
    return tuple(
        TimedWord(text[at:until], start, end)
        for (at, start), (until, end) in zip(begins, ends, strict=True)
    )
