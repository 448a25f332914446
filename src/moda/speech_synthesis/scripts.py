"""Which language a stretch of text is read in: names in another script are read in theirs."""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

SCRIPTS = {
    "LATIN": "en-us",
    "CYRILLIC": "ru",
    "GREEK": "el",
    "HEBREW": "he",
    "ARABIC": "ar",
    "DEVANAGARI": "hi",
    "BENGALI": "bn",
    "GURMUKHI": "pa",
    "GUJARATI": "gu",
    "TAMIL": "ta",
    "TELUGU": "te",
    "KANNADA": "kn",
    "MALAYALAM": "ml",
    "SINHALA": "si",
    "GEORGIAN": "ka",
    "ARMENIAN": "hy",
    "HANGUL": "ko",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "CJK": "cmn",
}
"""The language that a script is read in where the text's own language is written in another."""
OTHER_SCRIPTS = {
    "CYRILLIC": ("ba", "be", "bg", "cv", "kk", "ky", "mk", "nog", "ru", "sr", "tt", "uk"),
    "GREEK": ("el", "grc"),
    "HEBREW": ("he", "yi"),
    "ARABIC": ("ar", "fa", "ku", "sd", "ug", "ur"),
    "DEVANAGARI": ("hi", "kok", "mr", "ne"),
    "BENGALI": ("as", "bn", "bpy"),
    "GURMUKHI": ("pa",),
    "GUJARATI": ("gu",),
    "TAMIL": ("ta",),
    "TELUGU": ("te",),
    "KANNADA": ("kn",),
    "MALAYALAM": ("ml",),
    "SINHALA": ("si",),
    "GEORGIAN": ("ka",),
    "ARMENIAN": ("hy", "hyw"),
    "HANGUL": ("ko",),
    "HIRAGANA": ("ja",),
    "KATAKANA": ("ja",),
    "CJK": ("cmn", "yue", "hak", "zh", "ja"),
}
"""Languages that are written in scripts other than Latin, by the first part of their name."""


class ScriptRun(NamedTuple):
    """Consecutive text in one script."""

    text: str
    language: str


def script_of(letter: str) -> str | None:
    """The script of a letter; None for digits, punctuation and scripts that are not listed."""
    if not letter.isalpha():
        return None
    name = unicodedata.name(letter, "").split(" ")[0].removesuffix("-A")
    return name if name in SCRIPTS else None


def script_runs(text: str, language: str) -> tuple[ScriptRun, ...]:
    """Cut a text where its script changes to one that its language is not written in.

    What belongs to no script stays with what is before it. The texts together are the text.
    """
    runs: list[ScriptRun] = []
    for letter in text:
        script = script_of(letter)
        reads = runs[-1].language if runs else language
        if script is not None:
            reads = language if _is_written_in(language, script) else SCRIPTS[script]
        if runs and (reads == runs[-1].language or not _has_script(runs[-1].text)):
            runs[-1] = ScriptRun(runs[-1].text + letter, reads)
        else:
            runs.append(ScriptRun(letter, reads))
    return tuple(runs)


def _is_written_in(language: str, script: str) -> bool:
    base = language.split("-")[0]
    if script == "LATIN":
        # Foreign words in Latin letters are common everywhere; these voices spell them out.
        return not any(base in names for names in OTHER_SCRIPTS.values()) or "-latn" in language
    return base in OTHER_SCRIPTS[script]


def _has_script(text: str) -> bool:
    return any(script_of(letter) for letter in text)
