"""Values of options from texts, as the command line and tables have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from moda.errors import InputError
from moda.structures import Background, EmotionAt

COLOURS: Mapping[str, tuple[int, int, int]] = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "gray": (128, 128, 128),
    "green": (0, 177, 64),
    "blue": (0, 71, 187),
    "red": (200, 30, 40),
    "beige": (240, 230, 210),
}
"""Green and blue are those of studio screens."""


class Speaker(NamedTuple):
    """A face, counted from the left from 1, and what it says."""

    face: int
    speech: Path


def parse_emotion(text: str) -> EmotionAt:
    """``happy:0.7``, from the beginning; ``none`` is no emotion.

    Raises:
        InputError: It is written in another way.
    """
    return _emotion(0.0, text)


def parse_emotion_times(texts: Sequence[str]) -> tuple[EmotionAt, ...]:
    """``3.2=sad:0.5``, from that time on.

    Raises:
        InputError: One of them is written in another way.
    """
    entries = []
    for text in texts:
        seconds, equals, name = text.partition("=")
        if not equals:
            raise InputError(f"emotion {text!r} names no time; write it like 3.2=sad:0.5")
        entries.append(_emotion(_number(seconds, text), name))
    return tuple(entries)


def _emotion(seconds: float, text: str) -> EmotionAt:
    name, colon, intensity = text.partition(":")
    amount = _number(intensity, text) if colon else 1.0
    return EmotionAt(seconds, None if name == "none" else name, amount)


def _number(text: str, whole: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(
            f"{text!r} in emotion {whole!r} is not a number; write it like happy:0.7 or 3.2=sad"
        ) from None


def parse_size(text: str) -> int | Literal["own"]:
    """A number of pixels, or ``own``.

    Raises:
        InputError: It is neither.
    """
    if text == "own":
        return "own"
    try:
        return int(text)
    except ValueError:
        raise InputError(f"size {text!r} is neither a number of pixels nor own") from None


def parse_background(text: str) -> Background:
    """``none``, the name of a colour, or ``#rrggbb``.

    Raises:
        InputError: It is nothing of these.
    """
    name = text.strip().lower()
    if name == "none":
        return Background(None)
    if name in COLOURS:
        return Background(COLOURS[name])
    digits = name.removeprefix("#")
    if name.startswith("#") and len(digits) == 6 and all(d in "0123456789abcdef" for d in digits):
        red, green, blue = bytes.fromhex(digits)
        return Background((red, green, blue))
    raise InputError(
        f"background {text!r} is no colour; write none, {', '.join(COLOURS)}, or #rrggbb"
    )


def parse_faces(texts: Sequence[str]) -> int | tuple[Speaker, ...]:
    """``2``, or ``1=a.wav`` and ``2=b.wav``.

    Raises:
        InputError: One of them is written in another way, or only some have a recording.
    """
    faces = [_face(text) for text in texts]
    speakers = tuple(Speaker(face, speech) for face, speech in faces if speech is not None)
    if not speakers and len(faces) == 1:
        return faces[0][0]
    if len(speakers) != len(faces):
        raise InputError("several faces need a recording each; write --face 1=a.wav --face 2=b.wav")
    return speakers


def _face(text: str) -> tuple[int, Path | None]:
    number, equals, recording = text.partition("=")
    try:
        face = int(number) if number.strip().isdecimal() else 0
    except ValueError:  # more digits than Python reads
        face = 0
    if face < 1 or (equals and not recording):
        raise InputError(
            f"face {text!r} is not a number from 1, counted from the left, or a number with a "
            "recording such as 2=speech.wav"
        )
    return face, Path(recording) if equals else None
