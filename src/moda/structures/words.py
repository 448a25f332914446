"""Words with their times."""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

SENTENCE_ENDS = ".!?\u2026\u3002\uff01\uff1f\u061f\u0964"
"""Latin, Chinese and Japanese, Arabic, Indic."""


class TimedWord(NamedTuple):
    """A word, or a character where a script has no spaces, as it is written."""

    text: str
    """With what follows it up to the next one: punctuation and spaces."""
    start_seconds: float
    end_seconds: float


def spread_words(text: str, start_seconds: float, end_seconds: float) -> tuple[TimedWord, ...]:
    """The words of a text over a time, each as long as its share of the characters."""
    words = split_words(text)
    total = sum(len(word.strip()) + 1 for word in words)
    timed, done = [], 0
    for word in words:
        begin = start_seconds + (end_seconds - start_seconds) * done / total
        done += len(word.strip()) + 1
        end = start_seconds + (end_seconds - start_seconds) * done / total
        timed.append(TimedWord(word, begin, end))
    return tuple(timed)


def split_words(text: str) -> list[str]:
    """Words with the spaces after them; the characters of scripts that have none."""
    words: list[str] = []
    for letter in text:
        wide = unicodedata.east_asian_width(letter) == "W" and unicodedata.category(letter) == "Lo"
        after_wide = bool(words) and unicodedata.east_asian_width(words[-1][0]) == "W"
        begins = (words and words[-1][-1].isspace() and not letter.isspace()) or wide
        if not words or begins or (after_wide and letter.isalnum() and not wide):
            words.append(letter)
        else:
            words[-1] += letter
    return words
