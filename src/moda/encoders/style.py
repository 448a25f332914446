"""Free words about how something is said, to emotion, amounts, blinks and gaze.

A fixed vocabulary, not a language model: what it does not know, it says. Words are separated by
commas, "and" or "but"; "a little" and "very" change the amount.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from moda.errors import InputError
from moda.options import (
    MAX_BLINK_RATE,
    MAX_STYLE_CHARACTERS,
    RATE_LIMITS,
    USUAL_BLINK_RATE,
    Gaze,
    VideoOptions,
)
from moda.structures import EmotionAt, Style


class Meaning(NamedTuple):
    """What one word or phrase stands for at its usual strength."""

    emotion: str | None = None
    intensity: float = 0.0
    head_motion: float = 1.0
    expression: float = 1.0
    blink_rate: float | None = None
    gaze: Gaze | None = None
    rate: float = 1.0
    """Of synthesised speech."""


WORDS: Mapping[str, Meaning] = {
    "warm": Meaning("happy", 0.4),
    "kind": Meaning("happy", 0.3),
    "friendly": Meaning("happy", 0.5),
    "smiling": Meaning("happy", 0.6),
    "smiles": Meaning("happy", 0.6),
    "cheerful": Meaning("happy", 0.8, head_motion=1.2),
    "happy": Meaning("happy", 0.8),
    "joyful": Meaning("happy", 1.0, head_motion=1.2),
    "delighted": Meaning("happy", 1.0),
    "proud": Meaning("happy", 0.4, head_motion=0.8),
    "excited": Meaning("happy", 0.7, head_motion=1.5, expression=1.3, rate=1.1),
    "enthusiastic": Meaning("happy", 0.6, head_motion=1.5, expression=1.3, rate=1.1),
    "sad": Meaning("sad", 0.8, head_motion=0.8),
    "melancholic": Meaning("sad", 0.5, head_motion=0.7),
    "gloomy": Meaning("sad", 0.6, head_motion=0.7),
    "disappointed": Meaning("sad", 0.6),
    "tired": Meaning("sad", 0.3, head_motion=0.6, expression=0.8, blink_rate=28.0, rate=0.9),
    "sleepy": Meaning("sad", 0.3, head_motion=0.5, expression=0.7, blink_rate=34.0, rate=0.85),
    "bored": Meaning("sad", 0.25, head_motion=0.6, expression=0.7, rate=0.9),
    "angry": Meaning("angry", 0.8, head_motion=1.2),
    "furious": Meaning("angry", 1.0, head_motion=1.5, expression=1.2),
    "annoyed": Meaning("angry", 0.4),
    "irritated": Meaning("angry", 0.4),
    "stern": Meaning("angry", 0.3, head_motion=0.7),
    "strict": Meaning("angry", 0.3, head_motion=0.7),
    "afraid": Meaning("fear", 0.8, blink_rate=26.0),
    "scared": Meaning("fear", 0.9, blink_rate=26.0),
    "worried": Meaning("fear", 0.5),
    "anxious": Meaning("fear", 0.5, blink_rate=28.0),
    "nervous": Meaning("fear", 0.4, head_motion=1.3, blink_rate=30.0),
    "surprised": Meaning("surprised", 0.8),
    "astonished": Meaning("surprised", 1.0),
    "curious": Meaning("surprised", 0.35, head_motion=1.2),
    "disgusted": Meaning("disgusted", 0.9),
    "contemptuous": Meaning("contempt", 0.9),
    "scornful": Meaning("contempt", 0.8),
    "smug": Meaning("contempt", 0.5),
    "ironic": Meaning("contempt", 0.4),
    "serious": Meaning("neutral", 1.0, head_motion=0.8),
    "neutral": Meaning("neutral", 1.0),
    "matter of fact": Meaning("neutral", 1.0, head_motion=0.8, expression=0.9),
    "calm": Meaning(head_motion=0.6, expression=0.9, blink_rate=12.0),
    "relaxed": Meaning(head_motion=0.7, expression=0.9),
    "gentle": Meaning(head_motion=0.7, expression=0.85),
    "still": Meaning(head_motion=0.2),
    "stiff": Meaning(head_motion=0.1, expression=0.8),
    "lively": Meaning(head_motion=1.5, expression=1.2),
    "energetic": Meaning(head_motion=1.6, expression=1.25, rate=1.1),
    "nods": Meaning(head_motion=1.5),
    "nodding": Meaning(head_motion=1.5),
    "moves the head": Meaning(head_motion=1.5),
    "expressive": Meaning(expression=1.4),
    "exaggerated": Meaning(head_motion=1.3, expression=1.6),
    "articulate": Meaning(expression=1.25),
    "restrained": Meaning(head_motion=0.7, expression=0.75),
    "subtle": Meaning(head_motion=0.8, expression=0.75),
    "mumbling": Meaning(expression=0.5),
    "blinks": Meaning(blink_rate=26.0),
    "blinks often": Meaning(blink_rate=32.0),
    "blinks rarely": Meaning(blink_rate=6.0),
    "staring": Meaning(blink_rate=5.0, gaze="camera"),
    "focused": Meaning(head_motion=0.7, blink_rate=10.0, gaze="camera"),
    "attentive": Meaning(blink_rate=11.0, gaze="camera"),
    "confident": Meaning(head_motion=1.1, blink_rate=12.0, gaze="camera"),
    "direct": Meaning(gaze="camera"),
    "looks at the camera": Meaning(gaze="camera"),
    "looks at me": Meaning(gaze="camera"),
    "looks around": Meaning(gaze="wander"),
    "thoughtful": Meaning(head_motion=0.9, gaze="wander", rate=0.95),
    "shy": Meaning("happy", 0.15, head_motion=0.7, expression=0.8, gaze="wander"),
    "slow": Meaning(rate=0.85),
    "slowly": Meaning(rate=0.85),
    "fast": Meaning(rate=1.2),
    "quick": Meaning(rate=1.2),
    "hurried": Meaning(rate=1.25, head_motion=1.2),
}
"""The vocabulary. A face has one emotion at a time; head and expression amounts are factors."""

DEGREES: Mapping[str, float] = {
    "a little": 0.5,
    "a bit": 0.5,
    "slightly": 0.5,
    "mildly": 0.5,
    "somewhat": 0.7,
    "fairly": 0.85,
    "quite": 1.0,
    "rather": 1.0,
    "very": 1.4,
    "really": 1.4,
    "extremely": 1.8,
    "totally": 1.8,
}
"""How much of a word's meaning there is."""
FILLERS = frozenset(
    (
        "a", "an", "the", "is", "in", "with", "voice", "tone", "of", "manner", "way", "person",
        "he", "she", "they", "it", "sounds", "sound", "looks", "look", "feeling", "feels", "seems",
        "speaking", "speaks", "talks", "please",
    )
)  # fmt: skip
"""Words that may stand around the others and say nothing."""


@dataclass(frozen=True)
class Delivery:
    """What words about style came to."""

    style: Style
    head_motion: float = 1.0
    expression: float = 1.0
    blink_rate: float | None = None
    gaze: Gaze | None = None
    rate: float = 1.0
    not_understood: tuple[str, ...] = ()
    """Words that mean nothing to it, and what had to be set aside, in words for the user."""


def delivery_of(options: VideoOptions) -> Delivery:
    """What the words for the style stand for, but for what was chosen by hand, which counts more.

    A chosen emotion takes the place of that of the words; those at times follow.

    Raises:
        InputError: The text is too long.
    """
    words = options.style or ""
    said = Delivery(words) if isinstance(words, Style) else encode_style(words)
    kept = () if options.emotion is not None else said.style.schedule
    return replace(
        said,
        style=Style((*kept, *options.chosen_emotions)),
        head_motion=said.head_motion if options.head_motion is None else options.head_motion,
        expression=said.expression if options.expression is None else options.expression,
        blink_rate=said.blink_rate if options.blink_rate is None else options.blink_rate,
        gaze=options.gaze or said.gaze,
        rate=said.rate if options.rate is None else options.rate,
    )


def encode_style(words: str) -> Delivery:
    """Words such as ``warm, a little tired, nods`` to what they stand for.

    The strongest emotion is taken; factors are multiplied and limited to 0..2.

    Raises:
        InputError: The text is too long.
    """
    if len(words) > MAX_STYLE_CHARACTERS:
        raise InputError(
            f"the words for the style have {len(words)} characters, more than the limit of "
            f"{MAX_STYLE_CHARACTERS}; say it in a few words"
        )
    found: list[tuple[str, Meaning]] = []
    unknown: list[str] = []
    for phrase in re.split(r"[,;.!/\n]|\band\b|\bbut\b", words.lower()):
        _read(phrase.strip(), found, unknown)
    emotional = [(name, meaning) for name, meaning in found if meaning.emotion]
    strongest = max(emotional, key=lambda pair: pair[1].intensity, default=None)
    aside = [
        f"the {meaning.emotion} of {name!r} (a face has one emotion at a time, here that of "
        f"{strongest[0]!r})"
        for name, meaning in emotional
        if strongest is not None and meaning.emotion != strongest[1].emotion
    ]
    meanings = [meaning for _, meaning in found]
    blink_rates = [m.blink_rate for m in meanings if m.blink_rate is not None]
    gazes: list[Gaze] = [m.gaze for m in meanings if m.gaze is not None]
    schedule: tuple[EmotionAt, ...] = ()
    if strongest is not None:
        schedule = (EmotionAt(0.0, strongest[1].emotion, strongest[1].intensity),)
    return Delivery(
        Style(schedule),
        head_motion=_product([m.head_motion for m in meanings], 0.0, 2.0),
        expression=_product([m.expression for m in meanings], 0.0, 2.0),
        blink_rate=min(blink_rates[-1], MAX_BLINK_RATE) if blink_rates else None,
        gaze=gazes[-1] if gazes else None,
        rate=_product([m.rate for m in meanings], *RATE_LIMITS),
        not_understood=(*(f"{word!r}" for word in unknown), *aside),
    )


def _read(phrase: str, found: list[tuple[str, Meaning]], unknown: list[str]) -> None:
    """Find the longest known expressions of a phrase; whole phrases with "not" are left alone."""
    tokens = re.findall(r"[^\W_]+(?:['\u2019-][^\W_]+)*", phrase)
    if {"not", "never", "no", "without", "less", "more"} & set(tokens):
        unknown.append(phrase)
        return
    degree, place = 1.0, 0
    while place < len(tokens):
        for length in range(min(4, len(tokens) - place), 0, -1):
            name = " ".join(tokens[place : place + length])
            if name in DEGREES:
                degree = DEGREES[name]
            elif name in WORDS:
                found.append((name, _with_degree(WORDS[name], degree)))
                degree = 1.0
            else:
                continue
            place += length
            break
        else:
            if tokens[place] not in FILLERS:
                unknown.append(tokens[place])
            place += 1


def _with_degree(meaning: Meaning, degree: float) -> Meaning:
    def scaled(factor: float) -> float:
        return 1.0 + degree * (factor - 1.0)

    usual, rate = USUAL_BLINK_RATE, meaning.blink_rate
    return Meaning(
        meaning.emotion,
        min(1.0, degree * meaning.intensity),
        max(0.0, scaled(meaning.head_motion)),
        max(0.0, scaled(meaning.expression)),
        None if rate is None else max(0.0, usual + degree * (rate - usual)),
        meaning.gaze,
        scaled(meaning.rate),
    )


def _product(factors: list[float], low: float, high: float) -> float:
    return min(max(math.prod(factors, start=1.0), low), high)
