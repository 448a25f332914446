"""Text with tags to a sound file, with the times of words and phones and a schedule of emotions."""

from __future__ import annotations

import re
import wave
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from moda.errors import InputError, OutputError
from moda.media.containers import MAX_SECONDS
from moda.media.waves import wave_file
from moda.options import RATE_LIMITS, VideoOptions, require_range
from moda.phones import Phone, PhoneSegment
from moda.speech_synthesis.markup import TextPart, parse_text
from moda.speech_synthesis.scripts import ScriptRun, check_scripts, script_runs
from moda.speech_synthesis.synthesiser import Synthesiser, Utterance
from moda.structures import EmotionAt, Style
from moda.structures.words import SENTENCE_ENDS, TimedWord, spread_words

DEFAULT_LANGUAGE = VideoOptions.language
USUAL_RATE_HZ = 22_050
"""Until the first piece tells its own."""
FASTEST_CHARACTERS_PER_SECOND = 60.0
"""Of any voice at twice its usual rate; texts of marks that nobody says are faster still."""
PIECE_CHARACTERS = 1500
"""Texts are spoken in pieces of whole sentences of no more than this."""
LEAD_SECONDS, TAIL_SECONDS = 0.2, 0.3
"""Silence before and after: a mouth opens before it is heard."""
SENTENCE_SECONDS, CLAUSE_SECONDS, PARAGRAPH_SECONDS = 0.3, 0.12, 0.6
"""Pauses between pieces; within a piece the synthesiser makes its own."""
CLAUSE_ENDS = ",;:\u3001\uff0c\uff1b\uff1a\u060c\u2013\u2014"
EMOTION_LEAD_SECONDS = 0.2
"""A face changes a little before the voice; never before the word in front has been said."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SpokenText:
    """A text that has become sound."""

    path: Path
    """The sound file, 16-bit mono wav."""
    seconds: float
    text: str
    """What is said, without tags and emoji."""
    style: Style
    """The emotions of the tags, at the times of their words."""
    words: tuple[TimedWord, ...]
    phones: tuple[PhoneSegment, ...]
    """Empty unless the synthesiser says the times of all of them."""
    language: str

    def moved_to(self, path: Path, seconds: float, segments: Sequence[PhoneSegment]) -> SpokenText:
        """The same text in another recording, in which its phones have other times.

        Words and emotions keep their places among the phones.

        Args:
            path: The other recording.
            seconds: Its length.
            segments: The phones in the same order; pauses may be others.
        """

        def spoken(phones: Sequence[PhoneSegment]) -> list[PhoneSegment]:
            return [phone for phone in phones if phone.phones not in ((), (Phone.SILENCE,))]

        before, after = spoken(self.phones), spoken(segments)
        old = [edge for phone in before for edge in (phone.start_seconds, phone.end_seconds)]
        new = [edge for phone in after for edge in (phone.start_seconds, phone.end_seconds)]

        def moved(time: float) -> float:
            return float(np.interp(time, old, new)) if time > old[0] else min(time, new[0])

        words = [TimedWord(word.text, moved(word[1]), moved(word[2])) for word in self.words]
        schedule = [entry._replace(seconds=moved(entry.seconds)) for entry in self.style.schedule]
        return replace(
            self,
            path=path,
            seconds=seconds,
            words=tuple(words),
            style=Style(tuple(schedule)),
            phones=tuple(segments),
        )

    def with_phones(self, aligned: SpokenText) -> SpokenText:
        """The same with the phones and words that have been found in its sound."""
        return replace(self, phones=aligned.phones, words=aligned.words)


def synthesise(
    text: str,
    path: str | Path,
    *,
    synthesiser: Synthesiser,
    language: str = DEFAULT_LANGUAGE,
    voice: str | None = None,
    rate: float = 1.0,
    progress: Progress | None = None,
    max_seconds: float = MAX_SECONDS,
) -> SpokenText:
    """Speak a text with tags (:mod:`moda.speech_synthesis.markup`) into a wav file.

    Args:
        text: What is said.
        path: Of the sound file, replaced if it exists.
        synthesiser: What speaks.
        language: Such as ``en-us``, ``de``, ``fr-fr``, ``cmn``. Text in a script that the language
            is not written in is read in a language of that script.
        voice: One of the synthesiser's.
        rate: 0.5..2, 1 is usual.
        progress: Called with the characters that have been spoken, and all of them.
        max_seconds: Longest recording.

    Raises:
        InputError: The text, a tag, the language, the voice or the rate cannot be used, the text
            is too long, or the synthesiser fails.
        MissingExtraError: The synthesiser is not installed.
        OutputError: The file cannot be written.
    """
    require_range("rate of speech", rate, *RATE_LIMITS)
    parts = check_spoken_length(text, max_seconds)
    if synthesiser.takes_language:
        check_scripts("".join(part.text for part in parts), language)
    path = Path(path)
    schedule: list[EmotionAt] = []
    total = sum(len(part.text) for part in parts)
    done = 0
    try:
        with wave_file(path, USUAL_RATE_HZ) as file:
            recording = _Recording(file, max_seconds)
            for part in parts:
                recording.pause(part.pause_seconds)
                if part.is_change:
                    at = recording.change_seconds(EMOTION_LEAD_SECONDS)
                    schedule.append(EmotionAt(at, part.emotion, part.intensity))
                for piece in _pieces(part, language, synthesiser):
                    spoken = synthesiser.speak(
                        piece.text.strip(), language=piece.language, voice=voice, rate=rate
                    )
                    recording.add(spoken, piece.text)
                    done += len(piece.text)
                    if progress is not None:
                        progress(min(done, total), total)
            recording.end()
    except wave.Error as error:
        raise OutputError(f"{path} cannot be written ({error}); choose another folder") from None
    return SpokenText(
        path,
        recording.seconds,
        " ".join(part.text for part in parts),
        Style(tuple(schedule)),
        tuple(recording.words),
        tuple(recording.phones) if recording.knows_phones else (),
        language,
    )


def check_spoken_length(text: str, max_seconds: float) -> tuple[TextPart, ...]:
    """The parts of a text that can be spoken in a time, however fast the voice is.

    Raises:
        InputError: As :func:`moda.speech_synthesis.markup.parse_text`, or it is too long.
    """
    parts = parse_text(text)
    pauses = sum(part.pause_seconds for part in parts)
    least = pauses + sum(len(part.text) for part in parts) / FASTEST_CHARACTERS_PER_SECOND
    if least > max_seconds:
        raise _too_long(least, max_seconds)
    return parts


def _too_long(seconds: float, limit: float) -> InputError:
    return InputError(
        f"the text takes at least {seconds:.0f} s to say, pauses included, more than the limit of "
        f"{limit:g} s; split it, or shorten its pauses"
    )


class _Recording:
    """The sound file as it grows, with what is said in it."""

    def __init__(self, file: wave.Wave_write, max_seconds: float) -> None:
        self.words: list[TimedWord] = []
        self.phones: list[PhoneSegment] = []
        self.knows_phones = True
        self._file = file
        self._max_seconds = max_seconds
        self._rate_hz = 0
        self._count = 0
        self._due_seconds = LEAD_SECONDS
        """Silence before the next piece; the first one tells the rate."""

    @property
    def seconds(self) -> float:
        return self._count / self._rate_hz if self._rate_hz else 0.0

    def pause(self, seconds: float) -> None:
        """Be silent before what comes next, if that is longer than the pause that is due."""
        if seconds > 0.0:
            self._due_seconds = max(self._due_seconds, seconds)

    def end(self) -> None:
        """Finish with a little silence."""
        self._be_silent(TAIL_SECONDS)

    def change_seconds(self, lead: float) -> float:
        """When a change begins that shall show with the next word."""
        if not self.words:
            return 0.0
        return max(self.words[-1].end_seconds, self.seconds + self._due_seconds - lead)

    def add(self, spoken: Utterance, text: str) -> None:
        """Write an utterance behind the pause that is due."""
        if not self._rate_hz:
            self._rate_hz = spoken.rate_hz
            self._file.setframerate(spoken.rate_hz)
        self._be_silent(self._due_seconds)
        start = self.seconds
        self._write(_at_rate(spoken, self._rate_hz))
        self._due_seconds = pause_after(text)
        words = spoken.words or spread_words(text, 0.0, spoken.seconds)
        moved = [TimedWord(word.text, word[1] + start, word[2] + start) for word in words]
        if moved and not moved[-1].text[-1:].isspace():
            moved[-1] = moved[-1]._replace(text=moved[-1].text + " ")
        if spoken.phones:
            last = max((s.end_seconds for s in spoken.phones if s.symbol.strip("_:")), default=0.0)
            end = max(start + last, moved[-1].start_seconds) if moved else start + last
            moved[-1:] = [word._replace(end_seconds=end) for word in moved[-1:]]
        self.words += moved
        self.knows_phones = self.knows_phones and bool(spoken.phones)
        self.phones += [
            phone._replace(
                start_seconds=phone.start_seconds + start, end_seconds=phone.end_seconds + start
            )
            for phone in spoken.phones
        ]

    def _be_silent(self, seconds: float) -> None:
        left = round(seconds * self._rate_hz)
        while left > 0:  # a second at a time
            self._write(np.zeros(min(left, self._rate_hz), np.int16))
            left -= self._rate_hz

    def _write(self, samples: NDArray[np.int16]) -> None:
        if self._count + len(samples) > self._max_seconds * self._rate_hz:
            raise _too_long((self._count + len(samples)) / self._rate_hz, self._max_seconds)
        self._file.writeframes(samples.astype("<i2").tobytes())
        self._count += len(samples)


def pause_after(text: str) -> float:
    """Seconds of silence between a text and what is said next."""
    if "\n\n" in text[len(text.rstrip()) :]:
        return PARAGRAPH_SECONDS
    end = text.rstrip(" \n\"'”»)]")[-1:]
    if (end and end in SENTENCE_ENDS) or "\n" in text[-1:]:
        return SENTENCE_SECONDS
    return CLAUSE_SECONDS if end and end in CLAUSE_ENDS else 0.0


def _pieces(part: TextPart, language: str, synthesiser: Synthesiser) -> Iterator[ScriptRun]:
    """What is spoken at once: whole sentences of one script. Joined they are the text."""
    for piece in split_sentences(part.text, PIECE_CHARACTERS):
        if not synthesiser.takes_language:
            yield ScriptRun(piece, language)
            continue
        for run in script_runs(piece, language):
            if any(letter.isalnum() for letter in run.text):
                yield run


def split_sentences(text: str, limit: int) -> Iterator[str]:
    """Cut a text at paragraphs, and behind sentences into pieces of no more than ``limit``.

    A sentence that is longer is cut at a space, or anywhere where there is none.
    """
    ends = re.escape(SENTENCE_ENDS)
    pattern = rf"[^\n{ends}]*[{ends}]*[\"'”»)\]]*\s*(?:\n\s*)?"
    piece = ""
    for sentence in re.findall(pattern, text):
        for part in _within(sentence, limit):
            if piece and (len(piece) + len(part) > limit or "\n" in piece[-2:]):
                yield piece
                piece = ""
            piece += part
    if piece.strip():
        yield piece


def _within(sentence: str, limit: int) -> Iterator[str]:
    while len(sentence) > limit:
        space = sentence.rfind(" ", limit // 2, limit)
        end = limit if space < 0 else space + 1
        yield sentence[:end]
        sentence = sentence[end:]
    yield sentence


def _at_rate(spoken: Utterance, rate_hz: int) -> NDArray[np.int16]:
    if spoken.rate_hz == rate_hz:
        return spoken.samples
    resampled = soxr.resample(spoken.samples.astype(np.float32), spoken.rate_hz, rate_hz)
    return np.round(np.clip(resampled, -32768, 32767)).astype(np.int16)
