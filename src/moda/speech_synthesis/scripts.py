"""Which language a stretch of text is read in: names in another script are read in theirs."""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

from moda.errors import InputError

SCRIPTS = {
    "LATIN": ("en-us",),
    "CYRILLIC": ("ru", "ba", "be", "bg", "cv", "kk", "ky", "mk", "nog", "sr", "tt", "uk"),
    "GREEK": ("el", "grc"),
    "HEBREW": ("he", "yi"),
    "ARABIC": ("ar", "fa", "ku", "sd", "ug", "ur"),
    "DEVANAGARI": ("hi", "kok", "mr", "ne"),
    "BENGALI": ("bn", "as", "bpy"),
    "GURMUKHI": ("pa",),
    "GUJARATI": ("gu",),
    "TAMIL": ("ta",),
    "TELUGU": ("te",),
    "KANNADA": ("kn",),
    "MALAYALAM": ("ml",),
    "SINHALA": ("si",),
    "ORIYA": ("or",),
    "THAI": ("th",),
    "MYANMAR": ("my", "shn"),
    "ETHIOPIC": ("am", "ti"),
    "GEORGIAN": ("ka",),
    "ARMENIAN": ("hy", "hyw"),
    "HANGUL": ("ko",),
    "HIRAGANA": ("ja",),
    "KATAKANA": ("ja",),
    "CJK": ("cmn", "yue", "hak", "zh", "ja"),
}
"""Languages that are written in a script, by the first part of their name.

Text in a script that its own language is not written in is read in the first of them. Many more
languages than that of ``LATIN`` are written in Latin letters: all that stand nowhere else.
"""

READ_WITH_OTHERS = (
    "FULLWIDTH", "HALFWIDTH", "MODIFIER", "FEMININE", "MASCULINE", "MICRO", "KELVIN", "ANGSTROM",
    "OHM", "MATHEMATICAL", "DOUBLE-STRUCK", "SCRIPT", "BLACK-LETTER", "BOPOMOFO",
)  # fmt: skip
"""How the names of letters begin that stand in texts of other scripts, which voices pass over."""


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


def check_scripts(text: str, language: str) -> None:
    """Raise :class:`InputError` for letters that no language of :data:`SCRIPTS` is written in."""
    for letter in text:
        if script_of(letter) is not None or unicodedata.category(letter) not in ("Lo", "Lu", "Ll"):
            continue
        name = unicodedata.name(letter, "unnamed").split(" ")[0]
        if name not in READ_WITH_OTHERS:
            raise InputError(
                f"{letter!r} is a letter of the {name.capitalize()} script, which the voices of "
                f"{language} cannot read; choose a synthesiser that can with --tts-command"
            )


def script_runs(text: str, language: str) -> tuple[ScriptRun, ...]:
    """Cut a text where its script changes to one that its language is not written in.

    What belongs to no script stays with what is before it. The texts together are the text.
    """
    runs: list[ScriptRun] = []
    for letter in text:
        script = script_of(letter)
        reads = runs[-1].language if runs else language
        if script is not None:
            reads = language if _is_written_in(language, script) else SCRIPTS[script][0]
        if runs and (reads == runs[-1].language or not _has_script(runs[-1].text)):
            runs[-1] = ScriptRun(runs[-1].text + letter, reads)
        else:
            runs.append(ScriptRun(letter, reads))
    return tuple(runs)


def _is_written_in(language: str, script: str) -> bool:
    base = language.split("-")[0]
    if script == "LATIN":
        # Foreign words in Latin letters are common everywhere; these voices spell them out.
        return not any(base in names for names in SCRIPTS.values()) or "-latn" in language
    return base in SCRIPTS[script]


def _has_script(text: str) -> bool:
    return any(script_of(letter) for letter in text)
