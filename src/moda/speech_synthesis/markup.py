"""Text with tags in brackets: what is said, and how.

``[happy] Hello! [sad:0.6] I have to go. [none]`` changes the emotion from there on,
``[pause]`` and ``[pause:1.5]`` are silence. ``\\[`` is a bracket that belongs to the text.
"""

from __future__ import annotations

import math
import re
import unicodedata
from typing import NamedTuple

from moda.errors import InputError
from moda.structures import EMOTIONS

MAX_CHARACTERS = 100_000
"""About two hours of speech."""
MAX_TAGS = 1000
MAX_PAUSE_SECONDS = 60.0
DEFAULT_PAUSE_SECONDS = 0.5
END_NAMES = ("none", "/")
TAG = re.compile(r"(?<!\\)\[([^\[\]]*)\]")
_JOINER = "\u200d"
"""Between the parts of an emoji, where it is dropped, and of some Indic letters."""
_INVISIBLE = "\u200b\u2060\ufe0e\ufe0f\ufeff\u00ad"
_DROPPED = "\0"


class TextPart(NamedTuple):
    """A stretch of text without tags."""

    text: str
    emotion: str | None
    intensity: float
    is_change: bool
    """Whether a tag about the emotion stands before it."""
    pause_seconds: float
    """Silence before it."""


def parse_text(text: str) -> tuple[TextPart, ...]:
    """Split a text at its tags, in order; parts with nothing to say are left out.

    Raises:
        InputError: An unknown tag, an amount outside the limits, too much text, or none.
    """
    if len(text) > MAX_CHARACTERS:
        raise InputError(
            f"the text has {len(text)} characters, more than the limit of {MAX_CHARACTERS}; "
            "split it in several videos"
        )
    num_tags = sum(1 for _ in TAG.finditer(text))
    if num_tags > MAX_TAGS:
        raise InputError(
            f"the text has {num_tags} tags, more than the limit of {MAX_TAGS}; split it in several "
            "videos"
        )
    parts: list[TextPart] = []
    emotion: str | None = None
    intensity, is_change, pause = 1.0, False, 0.0
    pieces = TAG.split(text)
    for index, piece in enumerate(pieces):
        if index % 2:
            name, amount = _parse_tag(piece)
            if name == "pause":
                pause += amount
            else:
                emotion = None if name in END_NAMES else name
                intensity, is_change = amount, True
            continue
        said = clean_text(piece.replace("\\[", "[").replace("\\]", "]"))
        if any(letter.isalnum() for letter in said):
            parts.append(TextPart(said, emotion, intensity, is_change, pause))
            is_change, pause = False, 0.0
    if not parts:
        raise InputError("the text has no words to say; give some letters or digits")
    return tuple(parts)


def clean_text(text: str) -> str:
    """The text without what cannot be said: emoji, control characters, half surrogates.

    Line breaks stay, for they are pauses; other white space becomes one space.
    """
    kept = []
    for letter in unicodedata.normalize("NFC", text):
        category = unicodedata.category(letter)
        if letter in "\n\t\r":
            kept.append("\n" if letter == "\n" else " ")
        elif letter in _INVISIBLE or (letter == _JOINER and kept[-1:] == [_DROPPED]):
            continue
        elif is_pictograph(letter) or category in ("Cc", "Cs", "Co", "Cn"):
            kept.append(_DROPPED)
        else:
            kept.append(letter)
    spoken = re.sub(rf"[ {_DROPPED}]*{_DROPPED}[ {_DROPPED}]*(?=[.,!?;:)]|$)", "", "".join(kept))
    lines = [" ".join(line.split()) for line in spoken.replace(_DROPPED, " ").split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def is_pictograph(letter: str) -> bool:
    """Emoji, arrows and dingbats; not currency, mathematics or degrees, which are read aloud."""
    code = ord(letter)
    return (
        0x1F000 <= code <= 0x1FAFF
        or 0x2190 <= code <= 0x21FF
        or 0x2300 <= code <= 0x27BF
        or 0x2900 <= code <= 0x297F
        or 0x2B00 <= code <= 0x2BFF
        or 0xE0020 <= code <= 0xE007F
        or code in (0x3030, 0x303D, 0x20E3)
    )


def _parse_tag(tag: str) -> tuple[str, float]:
    name, colon, number = (part.strip() for part in tag.partition(":"))
    name = name.lower()
    known = (*EMOTIONS, *END_NAMES, "pause")
    if name not in known:
        raise InputError(
            f"unknown tag [{tag}] in the text; known are {', '.join(known)}; write \\[ for a "
            "bracket that belongs to the text"
        )
    if not colon:
        return name, DEFAULT_PAUSE_SECONDS if name == "pause" else 1.0
    try:
        amount = float(number)
    except ValueError:
        amount = math.nan
    high = MAX_PAUSE_SECONDS if name == "pause" else 1.0
    if not 0.0 <= amount <= high:
        raise InputError(
            f"tag [{tag}] in the text has the amount {number!r}, which is no number in "
            f"0..{high:g}; write it like [sad:0.6] or [pause:1.5]"
        )
    return name, amount
