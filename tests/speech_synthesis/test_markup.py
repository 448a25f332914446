"""Tags, emoji, and what a text may not be."""

# ruff: noqa: RUF001 - several scripts

from __future__ import annotations

import pytest

from moda.errors import InputError
from moda.speech_synthesis.markup import MAX_CHARACTERS, clean_text, parse_text


def test_tags_divide_the_text() -> None:
    parts = parse_text("Well. [happy] Hello! [sad:0.6] I have to go. [none]Bye. [pause:1.5] Gone.")
    assert [(part.text, part.emotion, part.intensity) for part in parts] == [
        ("Well.", None, 1.0),
        ("Hello!", "happy", 1.0),
        ("I have to go.", "sad", 0.6),
        ("Bye.", None, 1.0),
        ("Gone.", None, 1.0),
    ]
    assert [part.is_change for part in parts] == [False, True, True, True, False]
    assert [part.pause_seconds for part in parts] == [0.0, 0.0, 0.0, 0.0, 1.5]


def test_tags_of_any_case_and_in_a_row() -> None:
    (part,) = parse_text("[Happy] [pause] [ANGRY : 0.25] No.")
    assert (part.emotion, part.intensity, part.pause_seconds) == ("angry", 0.25, 0.5)


def test_brackets_that_belong_to_the_text() -> None:
    (part,) = parse_text(r"See \[1\] there.")
    assert part.text == "See [1] there."


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[joyful] Hi", r"unknown tag \[joyful\].*known are angry, .*surprised, none"),
        ("Hi [1] there", r"unknown tag \[1\].*write \\\["),
        ("[happy:2] Hi", r"\[happy:2\].*0\.\.1"),
        ("[sad:very] Hi", "'very'"),
        ("[sad:nan] Hi", "'nan'"),
        ("[pause:100] Hi", r"0\.\.60"),
        ("", "no words"),
        (" \n ... !", "no words"),
        ("[happy] 😀", "no words"),
        ("a" * (MAX_CHARACTERS + 1), "100001 characters, more than the limit of 100000"),
    ],
)
def test_what_cannot_be_said(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        parse_text(text)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Hi 😀!", "Hi!"),
        ("Hi 👩‍👩‍👧 there", "Hi there"),
        ("one ☎ two ✅", "one two"),
        ("5 € × 3 = 15 €, 20 °C", "5 € × 3 = 15 €, 20 °C"),
        ("a\tb\x00c\u200bd", "a b cd"),
        ("क्\u200dष 👩\u200d👩", "क्\u200dष"),
        ("first\n\n\n\nsecond", "first\n\nsecond"),
        ("cafe\u0301", "caf\u00e9"),
        ("Bonjour !", "Bonjour !"),
    ],
)
def test_what_is_not_read(text: str, clean: str) -> None:
    assert clean_text(text) == clean
