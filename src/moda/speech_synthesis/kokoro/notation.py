"""espeak-ng's IPA in the notation that Kokoro was trained on, and what its symbols look like.

The notation writes a diphthong or an affricate as one letter, American vowels without length, and
stress before the vowel: https://github.com/hexgrad/misaki/blob/main/EN_PHONES.md
"""

# ruff: noqa: RUF001 - IPA letters look like Latin ones

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from moda.phones import Classes, ipa_phones

TIE = "^"
"""What espeak-ng is asked to write between the letters of one sound."""
MARKS = ";:,.!?—…"
"""Punctuation that Kokoro speaks: as pauses, and as the melody before them."""
STRESS = "ˈˌ"
"""Stand before the phone that they belong to; all other marks stand behind it."""
_RUNS = {
    1: ";:,.!?", 9: "—…\"()“” \u0303ʣʥʦʨᵝ\uab67AI", 31: "O", 33: "Q", 35: "ST", 39: "W",
    41: "Yᵊabcdef", 50: "hijklmnopqrstuvwxyzɑɐɒæ", 75: "βɔɕç", 80: "ɖðʤə", 85: "ɚɛɜ", 90: "ɟ",
    92: "ɡ", 99: "ɥ", 101: "ɨɪʝ", 110: "ɯɰŋɳɲɴø", 118: "ɸθœ", 123: "ɹ", 125: "ɾɻ", 128: "ʁɽʂʃʈʧ",
    135: "ʊʋ", 138: "ʌɣɤ", 142: "χʎ", 147: "ʒʔ", 156: "ˈˌː", 162: "ʰ", 164: "ʲ", 169: "↓",
    171: "→↗↘", 177: "ᵻ",
}  # fmt: skip
NUMBERS: Mapping[str, int] = {
    symbol: first + place
    for first, symbols in _RUNS.items()
    for place, symbol in enumerate(symbols)
}
"""Kokoro's vocabulary: the first number of each run, and the symbols that follow it."""
_ALL = {
    "a^ɪ": "I", "a^ʊ": "W", "e^ɪ": "A", "ɔ^ɪ": "Y", "o^ʊ": "O", "ə^ʊ": "Q",
    "d^z": "ʣ", "d^ʒ": "ʤ", "t^s": "ʦ", "t^ʃ": "ʧ",
}  # fmt: skip
_ENGLISH = _ALL | {
    "ə^l": "ᵊl", "ɚɹ": "əɹ", "ɚ": "əɹ", "ɐ": "ə", "e": "A", "o": "ɔ", "r": "ɹ", "ɬ": "l", "x": "k",
    "ç": "k", "ʔ": "t", "ɾ": "T", "\u0303": "",
}  # fmt: skip
_AMERICAN = _ENGLISH | {"ɜːɹ": "ɜɹ", "ɜː": "ɜɹ", "ɪə": "iə", "ː": ""}
_BRITISH = _ENGLISH | {"e^ə": "ɛː", "i^ə": "ɪə", "æ": "a"}
_TABLES = {"en-us": _AMERICAN, "en-gb": _BRITISH}
_SHORT = {"A": "eɪ", "I": "aɪ", "O": "oʊ", "W": "aʊ", "Y": "ɔɪ", "Q": "əʊ", "T": "ɾ", "ᵊ": "ə"}
_OTHER_LANGUAGE = re.compile(r"\([\w^-]+\)")
"""espeak-ng marks where it changes to another language and back."""
_SYLLABIC = re.compile("(.)\u0329")


def kokoro_phonemes(ipa: str, language: str) -> str:
    """What espeak-ng says of a clause, in Kokoro's notation; its words keep their spaces."""
    table = _TABLES.get(language, _ALL)
    text = unicodedata.normalize("NFD", _OTHER_LANGUAGE.sub("", ipa)).replace("c\u0327", "ç")
    text = _SYLLABIC.sub(r"ᵊ\1", text)
    for written in sorted(table, key=len, reverse=True):
        text = text.replace(written, table[written])
    return "".join(symbol for symbol in text if symbol in NUMBERS and symbol not in MARKS)


def symbol_classes(symbol: str) -> Classes:
    """What one symbol looks like on lips; nothing for stress, other marks and spaces."""
    return ipa_phones(_SHORT.get(symbol, symbol))
