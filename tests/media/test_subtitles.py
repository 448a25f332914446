"""Words with times to subtitles that can be read."""

# ruff: noqa: RUF001 - several scripts

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from moda.media.subtitles import LINE_LENGTH, format_srt, make_cues, width_of
from moda.structures.words import TimedWord, split_words, spread_words


def words(text: str, seconds: float = 0.3, start: float = 0.0) -> list[TimedWord]:
    return [
        TimedWord(f"{word} ", start + index * seconds, start + (index + 1) * seconds)
        for index, word in enumerate(text.split())
    ]


def test_sentences_begin_a_new_one() -> None:
    cues = make_cues(words("One two three. Four five!"))
    assert [cue.text for cue in cues] == ["One two three.", "Four five!"]
    assert cues[0].start_seconds == 0.0
    assert cues[0].end_seconds == pytest.approx(0.9)
    assert cues[1].end_seconds == pytest.approx(1.9), "a second at least"


def test_long_texts_fit_into_two_lines() -> None:
    text = "and so the very long sentence goes on without ever coming to an end " * 6
    cues = make_cues(words(text))
    assert " ".join(" ".join(cue.text for cue in cues).split()) == text.strip()
    for cue in cues:
        lines = cue.text.split("\n")
        assert len(lines) <= 2
        assert all(width_of(line) <= LINE_LENGTH + 8 for line in lines)
        assert cue.end_seconds - cue.start_seconds <= 6.5
    for before, after in pairwise(cues):
        assert before.end_seconds <= after.start_seconds + 1e-9


def test_pauses_divide() -> None:
    cues = make_cues([*words("well then"), *words("go on", start=3.0)])
    assert [cue.text for cue in cues] == ["well then", "go on"]


def test_srt() -> None:
    text = format_srt(make_cues([TimedWord("Hi. ", 3661.5, 3661.9), TimedWord("Bye.", 3670, 3672)]))
    assert text == (
        "1\n01:01:01,500 --> 01:01:02,500\nHi.\n\n2\n01:01:10,000 --> 01:01:12,000\nBye.\n"
    )
    assert re.fullmatch(r"(\d+\n[\d:,]+ --> [\d:,]+\n(.+\n)+\n?)+", text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello,  big world! ", ["Hello,  ", "big ", "world! "]),
        ("你好，世界 ok", ["你", "好，", "世", "界 ", "ok"]),
        ("a你b", ["a", "你", "b"]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert split_words(text) == expected


def test_spread_words_share_the_time() -> None:
    timed = spread_words("a bbb cccccc", 1.0, 2.0)
    assert timed[0].start_seconds == 1.0
    assert timed[-1].end_seconds == pytest.approx(2.0)
    lengths = [word.end_seconds - word.start_seconds for word in timed]
    assert lengths == sorted(lengths)
