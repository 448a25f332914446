"""Words with their times to subtitles.

Lines and times follow what broadcasters usually ask for: at most two lines of 42 characters, read
at about 17 characters a second (BBC Subtitle Guidelines, Netflix Timed Text Style Guide).
"""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from moda.structures.words import SENTENCE_ENDS, TimedWord

LINE_LENGTH, MAX_LINES = 42, 2
LONGEST_CUE_SECONDS, SHORTEST_CUE_SECONDS = 6.0, 1.0
PAUSE_SECONDS = 0.6
"""A longer pause ends a subtitle."""


class Cue(NamedTuple):
    """One subtitle."""

    text: str
    """One or two lines."""
    start_seconds: float
    end_seconds: float


def make_cues(words: Sequence[TimedWord]) -> tuple[Cue, ...]:
    """Group words into subtitles; sentences begin a new one.

    A short one stays on the screen for a second, unless the next one comes before that.
    """
    groups: list[list[TimedWord]] = []
    for word in words:
        if groups and _belongs(groups[-1], word):
            groups[-1].append(word)
        else:
            groups.append([word])
    texts = [wrap("".join(word.text for word in group)) for group in groups]
    cues = []
    for index, group in enumerate(groups):
        end = max(group[-1].end_seconds, group[0].start_seconds + SHORTEST_CUE_SECONDS)
        if index + 1 < len(groups):
            end = min(end, groups[index + 1][0].start_seconds)
        if texts[index]:
            cues.append(Cue(texts[index], group[0].start_seconds, end))
    return tuple(cues)


def wrap(text: str) -> str:
    """A text in two lines of about the same length, or in one where it is short."""
    text = " ".join(text.split())
    if width_of(text) <= LINE_LENGTH:
        return text
    if " " not in text:
        middle = len(text) // 2
        return f"{text[:middle]}\n{text[middle:]}"
    lines = textwrap.wrap(text, max(LINE_LENGTH // 2, len(text) // 2 + 4), break_long_words=False)
    if len(lines) > MAX_LINES:
        lines = textwrap.wrap(text, LINE_LENGTH + 8, break_long_words=False)
    return "\n".join(lines)


def width_of(text: str) -> int:
    """Length in columns: Chinese, Japanese and Korean characters take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def format_srt(cues: Sequence[Cue]) -> str:
    """The content of an SRT file."""
    blocks = [
        f"{number}\n{_stamp(cue.start_seconds)} --> {_stamp(cue.end_seconds)}\n{cue.text}\n"
        for number, cue in enumerate(cues, start=1)
    ]
    return "\n".join(blocks)


def write_srt(path: Path, cues: Sequence[Cue]) -> None:
    """Write an SRT file, UTF-8, as players expect it."""
    path.write_bytes(format_srt(cues).encode("utf-8"))


def _belongs(group: Sequence[TimedWord], word: TimedWord) -> bool:
    """Whether a word goes into the same subtitle as those before it."""
    before = group[-1]
    text = "".join(part.text for part in (*group, word)).strip()
    return (
        before.text.rstrip(" \"'”»)\n")[-1:] not in tuple(SENTENCE_ENDS)
        and "\n\n" not in before.text
        and word.start_seconds - before.end_seconds <= PAUSE_SECONDS
        and word.end_seconds - group[0].start_seconds <= LONGEST_CUE_SECONDS
        and width_of(text) <= LINE_LENGTH * MAX_LINES - 4
    )


def _stamp(seconds: float) -> str:
    milliseconds = round(max(seconds, 0.0) * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02},{milliseconds % 1000:03}"
